"""What values weigh, moving them between devices, and byte budgets over everything that holds memory."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from nodegraph.types import Each

if TYPE_CHECKING:
    import torch

from nodegraph.devices import loaded_torch

V = TypeVar("V")
OVERHEAD_BYTES = 64  # what a value without tensors is taken to weigh, besides text


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor inside a value, in a fixed order. Values without torch loaded have none."""
    torch = loaded_torch()
    if torch is None:
        return
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, (tuple, list)):
            stack.extend(reversed(item))  # pyright: ignore[reportUnknownArgumentType]  # a node's value: of anything
        elif isinstance(item, Mapping):
            stack.extend(reversed(list(item.values())))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]  # as above
        elif dataclasses.is_dataclass(item) and not isinstance(item, type):
            stack.extend(getattr(item, field.name) for field in reversed(dataclasses.fields(item)))


_WEIGHTLESS = frozenset({int, float, bool, type(None)})


def nbytes(value: Any) -> int:
    """Bytes a value keeps from being freed; a view counts for the storage it holds on to."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # a node's value: anything
    if kind in _WEIGHTLESS:
        return OVERHEAD_BYTES
    if kind is tuple and len(value) == 1 and type(value[0]) in _WEIGHTLESS:
        return OVERHEAD_BYTES
    if kind is str:
        return OVERHEAD_BYTES + len(value)
    if kind is tuple and all(type(item) is str for item in value):
        return OVERHEAD_BYTES + sum(map(len, value))
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors(value)}
    return OVERHEAD_BYTES + sum(storages.values())


def device_of(value: Any) -> str:
    """Name of the device a value lives on (`cpu`, `cuda:0`): that of its first tensor."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # as above
    if kind is tuple and len(value) == 1 and type(value[0]) in _WEIGHTLESS:
        return "cpu"
    first = next(tensors(value), None)
    return "cpu" if first is None else str(first.device)


def rebuild(value: V, change: Callable[[torch.Tensor], torch.Tensor]) -> V:
    """The value with each tensor replaced; what holds no tensor stays the same object."""
    torch = loaded_torch()
    if torch is None or next(tensors(value), None) is None:
        return value
    result: Any = value
    kind = cast("Callable[..., Any]", type(value))

    def items() -> Iterator[Any]:
        return (rebuild(item, change) for item in cast("Iterable[Any]", value))

    if isinstance(value, torch.Tensor):
        result = change(cast(Any, value))
    elif isinstance(value, Each):
        result = Each(items())
    elif isinstance(value, tuple):
        result = kind(*items()) if hasattr(kind, "_fields") else kind(items())
    elif isinstance(value, list):
        result = kind(items())
    elif isinstance(value, Mapping):
        result = {name: rebuild(item, change) for name, item in cast("Mapping[Any, Any]", value).items()}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        result = dataclasses.replace(
            value, **{field.name: rebuild(getattr(value, field.name), change) for field in fields}
        )
    return result


def move(value: V, device: str) -> V:
    """The value on another device; host copies of device tensors are pinned, so that they return fast."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        if str(tensor.device) == device:
            return tensor
        moved = tensor.to(device)
        return moved.pin_memory() if device == "cpu" and tensor.device.type == "cuda" else moved

    return rebuild(value, change)


class Tenant(Protocol):
    """Something that holds memory and can be got back.

    Attributes:
        nbytes: bytes held.
        seconds: time it would take to have it again.
        pins: users at this moment; a pinned tenant stays.
        score: set by the ledger.
    """

    nbytes: int
    seconds: float
    pins: int
    score: float

    def evict(self) -> None:
        """Let go of the memory. Called by the ledger, which has already forgotten the tenant."""
        ...


class Ledger:
    """The byte budget of one device, over cached values and models alike.

    The tenant with the least restore time per byte goes first; ageing lets what is not used sink (GreedyDual-Size,
    Cao & Irani 1997). Pinned tenants stay even when they alone exceed the budget.

    Attributes:
        name: the device.
        budget: bytes.
        used: bytes held by all tenants.
        evictions: tenants evicted so far.
    """

    def __init__(self, name: str, budget: int) -> None:
        self.name, self.budget = name, budget
        self.used = 0
        self.evictions = 0
        self._age = 0.0
        self._tenants: dict[int, Tenant] = {}
        self._heap: list[tuple[float, int]] = []

    def add(self, tenant: Tenant) -> None:
        """Enter a tenant and evict others until the budget holds."""
        number = id(tenant)
        self._tenants[number] = tenant
        self.used += tenant.nbytes
        tenant.score = self._age + tenant.seconds / tenant.nbytes
        heapq.heappush(self._heap, (tenant.score, number))
        if self.used > self.budget:
            self.make_room(0)

    def touch(self, tenant: Tenant) -> None:
        """Note a use; its place in the queue is corrected when it comes up."""
        tenant.score = self._age + tenant.seconds / tenant.nbytes

    def resize(self, tenant: Tenant, nbytes: int) -> None:
        """Note that a tenant holds more or less than before, as what it shared with another came to it or went."""
        if tenant in self:
            self.used += nbytes - tenant.nbytes
        tenant.nbytes = nbytes

    def remove(self, tenant: Tenant) -> None:
        """Forget a tenant that has let go by itself."""
        if self._tenants.pop(id(tenant), None) is None:
            return
        self.used -= tenant.nbytes
        if len(self._heap) > 2 * len(self._tenants) + 64:  # mostly places of tenants that have gone by themselves
            self._heap = [(kept.score, number) for number, kept in self._tenants.items()]
            heapq.heapify(self._heap)

    def __contains__(self, tenant: Tenant) -> bool:
        return self._tenants.get(id(tenant)) is tenant

    def make_room(self, wanted: int) -> bool:
        """Evict until `wanted` more bytes fit; True when they do."""
        return self._evict(lambda: self.used + wanted <= self.budget)

    def clear(self) -> int:
        """Evict everything that is not pinned -> bytes freed."""
        before = self.used
        self._evict(lambda: False)
        return before - self.used

    def _evict(self, is_enough: Callable[[], bool]) -> bool:
        pinned: list[tuple[float, int]] = []
        while self._heap and not is_enough():
            score, number = heapq.heappop(self._heap)
            tenant = self._tenants.get(number)
            if tenant is None:
                continue
            if tenant.score > score:
                heapq.heappush(self._heap, (tenant.score, number))
            elif tenant.pins > 0:
                pinned.append((score, number))
            else:
                self._age = max(self._age, score)
                self.remove(tenant)
                self.evictions += 1
                tenant.evict()
        for item in pinned:
            heapq.heappush(self._heap, item)
        return is_enough()
