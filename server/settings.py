"""How the server is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nodegraph.settings import Settings

MIB = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """How the server is set up.

    Attributes:
        engine: folders, device and caches of the workers' sessions.
        host, port: where it listens; port 0 takes a free one.
        frontend: what `/` shows: our canvas, the page of the API, or ComfyUI's own web frontend from its package.
        wants_token: True when every client must show a token; always so when listening beyond this machine.
        allowed_hosts: further names that clients may reach it by, such as that of a proxy.
        allowed_origins: further origins whose pages may call it.
        is_proxied: trust `X-Forwarded-Proto` and `X-Forwarded-For` of a proxy on this machine.
        tls_certificate, tls_key: PEM files for HTTPS.
        max_upload: bytes of one request.
        max_pixels: pixels of one picture, decoded.
        rate: requests a second of one token, or of one address without tokens; bursts of ten times as many pass.
        queue_limit: runs that may wait.
        history_limit: finished runs that are kept; the oldest go first.
        retries: how often a run is tried again after its worker died under it.
        stall_seconds: a run that tells nothing for so long is hanging.
        beat_seconds: a worker that shows no life for so long is hanging.
        grace_seconds: what a run has to stop in, after a cancel or at the server's end.
        previews: small pictures of work under way.
        devices: devices of the workers, one process each; by default all visible GPUs, else the CPU.
        is_warm: workers import torch when they start, not when the first run needs it.
        is_structured: log lines as JSON.
    """

    engine: Settings = field(default_factory=Settings)
    host: str = "127.0.0.1"
    port: int = 8188
    frontend: Literal["canvas", "none", "comfyui"] = "canvas"
    wants_token: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    is_proxied: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_upload: int = 100 * MIB
    max_pixels: int = 128_000_000
    rate: float = 200.0
    queue_limit: int = 100_000
    history_limit: int = 10_000
    retries: int = 1
    stall_seconds: float = 1800.0
    beat_seconds: float = 60.0
    grace_seconds: float = 20.0
    previews: bool = True
    devices: tuple[str, ...] = ()
    is_warm: bool = True
    is_structured: bool = False
