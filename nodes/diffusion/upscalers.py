"""What an upscaler's file is, told before it is used. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.devices import DType
from nodegraph.errors import FileProblem
from nodes.diffusion.foreign import name_kind, refuse_foreign, refuse_quantised
from nodes.diffusion.headers import PICKLES, read_header, sniff

if TYPE_CHECKING:
    import torch

    from nodes.diffusion.upscaling import UpscaleNetwork

_STABLE_DIFFUSION = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.", "text_model.")


@dataclass(frozen=True, slots=True)
class Upscaler:
    """The weights of a network from image to image. Which one it is, is told by the names of its tensors when it loads.

    Attributes:
        path: the file.
        digest: of its content.
        nbytes: of the file.
        dtype: what it is to be computed in; `auto` leaves that to the session.
    """

    path: str
    digest: str
    nbytes: int = 0
    dtype: DType = "auto"

    @property
    def role(self) -> str:
        """What it is, for the choice of a dtype."""
        return "upscaler"

    @property
    def fingerprint(self) -> str:
        """Equal for equal content."""
        return f"upscaler-{self.digest}"

    @property
    def base(self) -> str:
        """The fingerprint: there are no variants."""
        return self.fingerprint

    def load(self, device: torch.device | str, dtype: torch.dtype, variants: Sequence[Any] = ()) -> UpscaleNetwork:
        """Builds the network with its weights on `device`; imports torch.

        Args:
            device: where to.
            dtype: of its weights, where the network can be computed in it; else float32.
            variants: of no use here.

        Raises:
            FileProblem: the file is damaged or no upscaler.
        """
        from nodes.diffusion.upscaling import load_upscaler

        return load_upscaler(self.path, device, dtype)


def read_upscaler(path: str | Path, digest: str) -> Upscaler:
    """The upscaler in a file.

    Raises:
        FileProblem: the file cannot be one of an upscaler; see `upscaler_problems`.
    """
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        sniff(path)
    else:
        entries = read_header(path).tensors
        refuse_foreign(path.name, entries, "an upscaler")
        refuse_quantised(path.name, entries.values())
        if any(name.startswith(_STABLE_DIFFUSION) for name in entries):
            raise no_upscaler(path.name, entries)
    return Upscaler(str(path), digest, path.stat().st_size)


def upscaler_problems(path: str | Path) -> list[str]:
    """What is wrong with an upscaler's file, found without torch. A pickle is only sniffed at."""
    try:
        read_upscaler(path, "")
    except FileProblem as problem:
        return [str(problem)]
    return []


def no_upscaler(where: str, names: Iterable[str]) -> FileProblem:
    """The problem of a file with tensors so named that is no upscaler: what it is instead."""
    names = list(names)
    refuse_foreign(where, names, "an upscaler")
    if any(name.startswith("first_stage_model.") for name in names) and any(
        name.startswith("model.diffusion_model.") for name in names
    ):
        return FileProblem(f"{where}: is a checkpoint, not an upscaler; put it in the `checkpoints` folder and load it "
                           "with CheckpointLoaderSimple")  # fmt: skip
    return name_kind(where, names, "an upscaler", "of an architecture that spandrel knows; choose another file")
