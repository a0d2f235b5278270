"""Loaded weights: one copy per fingerprint, device and dtype, held as tenants of the device's ledger.

Variants of one model, such as the same UNet with LoRAs of other strengths, share the tensors that are alike in them.
Each byte is counted once, for the variant used longest ago of those that hold it when one comes or goes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from nodegraph.devices import Device, DType
from nodegraph.memory import Ledger

if TYPE_CHECKING:
    import torch

SMALL_BYTES = 32 << 20
"""Models up to this size run on one thread of a CPU. Measured with the starter's UNet on two cores: 0.44 s a picture
against 0.38 with two threads on an idle machine, 0.46 against 2.4 with one core busy."""

KEPT_VARIANTS = 2
"""So many variants of one model stay: two that take turns in a workflow. A strength that is turned leaves no trail."""


class Weights(Protocol):
    """Where a module's weights are and how to make it."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights."""
        ...

    @property
    def base(self) -> str:
        """Equal for variants of one model, which share what is alike in them; else the fingerprint."""
        ...

    @property
    def role(self) -> str:
        """What it is (`unet`, `vae`, ...); decides the dtype."""
        ...

    @property
    def dtype(self) -> DType:
        """What it is to be held in; `auto` leaves that to the session."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors in the file."""
        ...

    def load(self, device: torch.device, dtype: torch.dtype, variants: Sequence[Any] = ()) -> Any:
        """Makes the module with its weights on the device.

        Args:
            device: where to.
            dtype: of the weights.
            variants: loaded modules of the same base and dtype, whose tensors may be shared.

        Raises:
            FileProblem: the file is not what it was.
        """
        ...


class LoadedModel:
    """A module in memory, a tenant of its ledger.

    Attributes:
        kin: equal for variants of one model in one dtype.
        storages: bytes by address of what its tensors are in.
        nbytes: of those that are counted for it and for no other variant.
    """

    __slots__ = ("__weakref__", "_models", "key", "kin", "module", "nbytes", "pins", "score", "seconds", "storages")

    def __init__(self, models: Models, key: tuple[str, str], kin: tuple[str, str], module: Any, seconds: float) -> None:
        self._models, self.key, self.kin, self.module, self.seconds = models, key, kin, module, seconds
        storages = [tensor.untyped_storage() for tensor in module_tensors(module)]
        self.storages = {storage.data_ptr(): storage.nbytes() for storage in storages}
        self.nbytes = max(1, sum(self.storages.values()))
        self.pins = 0
        self.score = 0.0

    def evict(self) -> None:
        """Forgets the module; its file brings it back."""
        self._models.forget(self.key)


class Models:
    """The models of one device.

    Args:
        device: where they are held.
        dtype: `auto` is fp32 on a CPU; elsewhere fp16, and for the VAE bf16, which does not overflow.
        ledger: gives the device's byte budget, when first needed: asking a device for its memory may import torch.
        lock: guards the ledger.
    """

    def __init__(self, device: Device, dtype: DType, ledger: Callable[[], Ledger], lock: threading.RLock) -> None:
        self._device, self._dtype, self._find_ledger, self._lock = device, dtype, ledger, lock
        self._loaded: dict[tuple[str, str], LoadedModel] = {}
        self._loading: WeakValueDictionary[tuple[str, str], threading.Lock] = WeakValueDictionary()
        self.loads = 0
        self._small_in_use = 0  # small models lent at the moment, perhaps to several threads
        self._threads_before = 1

    @property
    def _ledger(self) -> Ledger:
        return self._find_ledger()

    @property
    def loaded(self) -> Mapping[tuple[str, str], LoadedModel]:
        """What is in memory, by (fingerprint, dtype)."""
        return self._loaded

    def dtype_of(self, weights: Weights) -> str:
        """The dtype weights are held in."""
        for wanted in (weights.dtype, self._dtype):
            if wanted != "auto":
                return wanted
        if self._device.kind == "cpu":
            return "fp32"
        return "bf16" if weights.role == "vae" else "fp16"

    @contextmanager
    def use(self, weights: Weights) -> Generator[Any]:
        """The module with these weights, loaded when it is not yet; it stays while the block runs."""
        key = (weights.fingerprint, self.dtype_of(weights))
        with self._lock:
            gate = self._loading.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                entry = self._loaded.get(key)
                if entry is not None:
                    entry.pins += 1
                    self._ledger.touch(entry)
                    self._loaded[key] = self._loaded.pop(key)  # the last one used is the last one
            if entry is None:
                entry = self._load(key, weights)
        try:
            with self._threads(entry):
                yield entry.module
        finally:
            with self._lock:
                entry.pins -= 1
                if self._ledger.used > self._ledger.budget:
                    self._ledger.make_room(0)

    @contextmanager
    def _threads(self, entry: LoadedModel) -> Generator[None, None, None]:
        """One thread for a small model on the CPU; its short operations would only wait for each other."""
        if self._device.kind != "cpu" or sum(entry.storages.values()) > SMALL_BYTES:
            yield
            return
        import torch

        with self._lock:
            if not self._small_in_use:
                self._threads_before = torch.get_num_threads()
                torch.set_num_threads(1)
            self._small_in_use += 1
        try:
            yield
        finally:
            with self._lock:
                self._small_in_use -= 1
                if not self._small_in_use:
                    torch.set_num_threads(self._threads_before)

    def seconds_of(self, weights: Weights) -> float:
        """What loading these weights took, or 0 when they are not in memory."""
        found = self._loaded.get((weights.fingerprint, self.dtype_of(weights)))
        return 0.0 if found is None else found.seconds

    def forget(self, key: tuple[str, str]) -> None:
        """Drops a module; called by the ledger."""
        entry = self._loaded.pop(key, None)
        if entry is not None:
            self._share_out(entry.kin)

    def _variants(self, kin: tuple[str, str]) -> list[LoadedModel]:
        return [entry for entry in self._loaded.values() if entry.kin == kin]

    def _share_out(self, kin: tuple[str, str]) -> None:
        """Counts each byte that variants share once."""
        counted: set[int] = set()
        for entry in self._variants(kin):
            own = sum(size for place, size in entry.storages.items() if place not in counted)
            counted.update(entry.storages)
            self._ledger.resize(entry, max(1, own))

    def _thin_out(self, kin: tuple[str, str]) -> None:
        """Drops the variants that were used longest ago."""
        idle = [entry for entry in self._variants(kin) if not entry.pins]
        for entry in idle[: max(0, len(self._variants(kin)) - KEPT_VARIANTS)]:
            self._ledger.remove(entry)
            entry.evict()

    def _load(self, key: tuple[str, str], weights: Weights) -> LoadedModel:
        import torch

        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[key[1]]
        kin = (weights.base, key[1])
        with self._lock:
            variants = [entry.module for entry in self._variants(kin)]
            if not variants:
                self._ledger.make_room(weights.nbytes)
        start = time.perf_counter()
        module = weights.load(self._device.torch, dtype, variants)
        del variants
        entry = LoadedModel(self, key, kin, module, time.perf_counter() - start)
        entry.pins = 1
        with self._lock:
            self.loads += 1
            self._loaded[key] = entry
            self._share_out(kin)
            self._ledger.add(entry)
            self._thin_out(kin)
        return entry


def module_tensors(module: Any) -> Iterator[torch.Tensor]:
    """Parameters and buffers of a module."""
    yield from module.parameters()
    yield from module.buffers()
