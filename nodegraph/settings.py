"""How a session is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nodegraph.devices import DType

GIB = 1 << 30


@dataclass(frozen=True)
class Settings:
    """How a session is set up.

    Attributes:
        home: data folder; by default `NODEGRAPH_HOME` or the platform's.
        device, dtype: where and in what precision to compute; `auto` decides.
        vram_limit, ram_limit: bytes for models and cached values on the device and in host memory.
        keeps: False to forget every result at its last use, and to read none.
        cache_dir: folder of the disk tier; by default `cache` in the home. None turns it off.
        disk_limit: bytes of values on disk.
        node_paths: folders of user nodes.
        model_roots: folders with ComfyUI's layout of models.
        extra_model_paths: ComfyUI's YAML file of further folders.
        output_dir: where pictures go; by default `output` in the home.
        previews: make small pictures of work under way, as events.
        reads_content: False to tell files apart by path, size and time alone: to check workflows, not to run them.
    """

    home: Path | None = None
    device: str = "auto"
    dtype: DType = "auto"
    vram_limit: int | None = None
    ram_limit: int | None = None
    keeps: bool = True
    cache_dir: Path | str | None = ""
    disk_limit: int = 20 * GIB
    node_paths: tuple[Path | str, ...] = ()
    model_roots: tuple[Path, ...] = ()
    extra_model_paths: Path | None = None
    output_dir: Path | None = None
    previews: bool = False
    reads_content: bool = True
