"""What weights have in common that are one file or folder, and have no variants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nodegraph.devices import DType
    from nodegraph.types import FileRef


class FileWeights(ABC):
    """The base of frozen dataclasses with a `file`, by which the engine loads models.

    Attributes:
        file: where they are.
    """

    __slots__ = ()
    file: FileRef

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Equal for equal weights."""

    @property
    def role(self) -> str:
        """What they are."""
        return "preprocessor"

    @property
    def dtype(self) -> DType:
        """What they are held in: not all of these networks are sound in half precision."""
        return "fp32"

    @property
    def base(self) -> str:
        """The fingerprint: there are no variants."""
        return self.fingerprint

    @property
    def nbytes(self) -> int:
        """Bytes of the file; of a folder those of its weights, of the safe ones where there are others too."""
        path = Path(self.file.path)
        files = [*path.glob("*.safetensors")] or [*path.glob("*.bin")] if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
