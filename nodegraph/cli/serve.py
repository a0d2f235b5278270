"""`nodegraph serve`."""

from __future__ import annotations

import argparse
import logging
import webbrowser
from dataclasses import replace
from pathlib import Path

from nodegraph.cli.arguments import Parser, UsageError, add_compute, add_places, count, seconds, settings_of, size
from nodegraph.cli.codes import OK
from nodegraph.cli.terminal import Terminal
from nodegraph.files import default_home


def serve(words: list[str], terminal: Terminal) -> int:
    """Serves the queue, ComfyUI's API and our own until it is told to end -> exit code."""
    parser = Parser(
        "serve", "Serves workflows: a queue that survives, ComfyUI's API, and our own under /v1.", "[options]"
    )
    _add_serving(parser)
    _add_safety(parser)
    add_compute(parser)
    add_places(parser)
    args = parser.parse(words)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return OK
    if (args.tls_cert is None) != (args.tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together; give both, or neither")
    from server.process import run
    from server.settings import ServerSettings

    engine = settings_of(args, runs=True)
    settings = ServerSettings(
        engine=replace(engine, home=(engine.home or default_home()).absolute()), host=args.host, port=args.port,
        frontend=args.frontend, wants_token=args.auth, allowed_hosts=tuple(args.allowed_host),
        allowed_origins=tuple(args.allowed_origin), is_proxied=args.proxied, tls_certificate=args.tls_cert,
        tls_key=args.tls_key, max_upload=args.max_upload, rate=args.rate, queue_limit=args.queue_limit,
        history_limit=args.history_limit, retries=args.retries, stall_seconds=args.stall, grace_seconds=args.grace,
        previews=not args.no_previews, devices=tuple(args.devices.split(",")) if args.devices else (),
        is_warm=not args.no_warm, is_structured=args.log_json,
    )  # fmt: skip

    def announce(address: str, secret: str | None) -> None:
        terminal.out(f"nodegraph serves {address}")
        if secret is not None:
            terminal.out(f"token of admin, shown this once: {secret}")
        if terminal.is_interactive and not args.no_browser:
            webbrowser.open(address)

    run(settings, announce=announce, level=logging.DEBUG if terminal.verbosity > 0 else logging.INFO)
    return OK


def _add_serving(parser: Parser) -> None:
    add = parser.add_argument_group("serving").add_argument
    add("--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default 127.0.0.1; 0.0.0.0 for all)")
    add("--port", type=_port, default=8188, metavar="N", help="port (default 8188; 0 takes a free one)")
    add(
        "--frontend",
        default="canvas",
        choices=("canvas", "none", "comfyui"),
        help="what / shows: the canvas (default), the pages of the API, or ComfyUI's own frontend "
        "(pip install comfyui-frontend-package)",
    )
    add("--no-browser", action="store_true", help="open no browser")
    add("--devices", metavar="A,B", help="devices, a worker process each (default: every GPU, else the CPU)")
    add("--no-previews", action="store_true", help="make no small pictures of work under way")
    add("--no-warm", action="store_true", help="let workers import torch when a run needs it, not at the start")
    add("--queue-limit", type=count, default=100_000, metavar="N", help="runs that may wait (default 100000)")
    add("--history-limit", type=count, default=10_000, metavar="N", help="finished runs kept (default 10000)")
    add(
        "--retries",
        type=_whole,
        default=1,
        metavar="N",
        help="how often a run is tried again when its worker died (default 1)",
    )
    add(
        "--stall",
        type=seconds,
        default=1800.0,
        metavar="S",
        help="a run silent for so long is hanging (default 1800)",
    )
    add("--grace", type=seconds, default=20.0, metavar="S", help="seconds a run has to stop in (default 20)")
    add("--log-json", action="store_true", help="log lines as JSON objects")


def _add_safety(parser: Parser) -> None:
    add = parser.add_argument_group("safety").add_argument
    add("--auth", action="store_true", help="want a token from everybody; always so beyond this machine")
    add("--allowed-host", action="append", default=[], metavar="NAME", help="further name of this server (repeatable)")
    add(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="origin whose pages may call this server, such as https://example.org (repeatable)",
    )
    add("--proxied", action="store_true", help="trust the X-Forwarded headers of a proxy on this machine")
    add("--tls-cert", type=Path, metavar="FILE", help="PEM certificate, to serve https")
    add("--tls-key", type=Path, metavar="FILE", help="its key")
    add("--max-upload", type=size, default=100 << 20, metavar="SIZE", help="bytes of a request (default 100MiB)")
    add("--rate", type=_rate, default=200.0, metavar="N", help="requests a second of one client; 0: any (default 200)")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; expected 0 to 65535")
    return int(text)


def _rate(text: str) -> float:
    return 0.0 if text == "0" else seconds(text)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number; expected 0 or more")
    return int(text)
