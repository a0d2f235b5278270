"""What a node may ask of the engine while it runs. Nodes see nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from nodegraph.devices import Device
from nodegraph.events import SavedFile
from nodegraph.files import Folders
from nodegraph.models import Models, Weights
from nodegraph.types import Lazy

if TYPE_CHECKING:
    import torch


class Host(Protocol):
    """The run behind a context."""

    def check(self) -> None:
        """Raises Interrupted when the run was cancelled."""
        ...

    def progress(self, node: str, step: int, total: int) -> None:
        """A step of a node is done."""
        ...

    def preview(self, node: str, make: Callable[[], tuple[str, bytes]]) -> None:
        """Has a small picture of a node's work made."""
        ...

    def show(self, node: str, format: str, image: bytes) -> None:
        """Shows an encoded picture, whether or not previews are wanted."""
        ...

    def note(self, node: str, text: str) -> None:
        """Tells a sentence about a node that is no error."""
        ...

    def saved(self, node: str, file: SavedFile) -> None:
        """A sink's file is in place."""
        ...

    def expand(self, node: str, class_type: str, inputs: Mapping[str, Any], name: str) -> tuple[Lazy[Any], ...]:
        """Adds a node while running -> a handle per output."""
        ...


class Context:
    """Handed to a node that has a parameter `ctx`.

    Attributes:
        node: id of the node in its workflow.
        files: the data folders.
        used: weights the node has asked for.
    """

    def __init__(
        self,
        host: Host,
        node: str,
        *,
        device: Device,
        models: Models,
        files: Folders,
        metadata: Callable[[], dict[str, str]],
        claim: str = "",
    ) -> None:
        self._host, self._device, self._models = host, device, models
        self.node, self.files, self._metadata, self._claim = node, files, metadata, claim
        self._expanded = self._saved = 0
        self.used: list[Weights] = []

    @property
    def device(self) -> torch.device:
        """The device results should live on."""
        return self._device.torch

    def use(self, weights: Weights) -> AbstractContextManager[Any]:
        """The module with these weights, on the device, kept there for the length of a `with` block."""
        self.used.append(weights)
        return self._models.use(weights)

    def check(self) -> None:
        """Call in long loops: raises Interrupted when the run was cancelled."""
        self._host.check()

    def step(self, i: int, n: int, preview: Callable[[], tuple[str, bytes]] | None = None) -> None:
        """Step `i` of `n` is done (the first is 1).

        Args:
            i: steps done.
            n: steps in all.
            preview: makes a small encoded picture and names its format (`jpeg`, `png`). It is called on another thread
                while the node goes on, and not at all where a newer one comes first or nobody wants any.

        Raises:
            Interrupted: the run was cancelled.
        """
        self._host.check()
        self._host.progress(self.node, i, n)
        if preview is not None:
            self._host.preview(self.node, preview)

    def show(self, format: str, image: bytes) -> None:
        """Hands an encoded picture (`jpeg`, `png`) to whoever follows the run; nothing of it is kept."""
        self._host.check()
        self._host.show(self.node, format, image)

    def note(self, text: str) -> None:
        """Tells a sentence about this node that is no error: `2 of 264 tensors of x.safetensors match nothing here`.

        The command line, the API and the canvas show it at the node, once however often it is said, and again wherever
        the result is taken from the cache.
        """
        self._host.note(self.node, text)

    def generator(self, seed: int) -> torch.Generator:
        """A CPU generator of this seed, so that noise is the same on every device."""
        import torch

        return torch.Generator("cpu").manual_seed(seed)

    def save(
        self,
        prefix: str,
        extension: str,
        write: Callable[[BinaryIO], None],
        *,
        kind: Literal["output", "temp"] = "output",
    ) -> SavedFile:
        """Writes a file of a sink: whole under its final name, or not at all.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        self._host.check()
        self._saved += 1
        claim = (self._claim, f"{self.node} {self._saved}") if self._claim else None
        file = self.files.save(kind, prefix, extension, write, claim)
        self._host.saved(self.node, file)
        return file

    def metadata(self) -> dict[str, str]:
        """What a picture carries of its workflow, by key: `prompt` as ComfyUI has it, `nodegraph` whole."""
        return self._metadata()

    def expand(self, class_type: str, *, name: str = "", **inputs: Any) -> tuple[Lazy[Any], ...]:
        """Adds a node to the running graph -> a handle per output. For control nodes only.

        Args:
            class_type: type of the new node.
            name: last part of its id; by default its number among this node's expansions.
            inputs: literals or handles.

        Raises:
            WorkflowError: the node is not sound.
        """
        self._expanded += 1
        return self._host.expand(self.node, class_type, inputs, name or str(self._expanded))
