"""What values weigh, how they move, and budgets that hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nodegraph.memory import OVERHEAD_BYTES, Ledger, device_of, move, nbytes, rebuild, tensors
from nodegraph.types import Each


@dataclass(frozen=True)
class Box:
    samples: torch.Tensor
    name: str = "x"
    inner: Any = None


class Pair(NamedTuple):
    one: Any
    two: Any


def test_tensors_are_found_everywhere_in_a_fixed_order() -> None:
    a, b, c, d = (torch.zeros(i + 1) for i in range(4))
    value = [a, {"k": (b, "text", 5)}, Box(c, inner=Pair(d, None))]
    assert [tensor.shape[0] for tensor in tensors(value)] == [1, 2, 3, 4]
    assert list(tensors("text")) == []


def test_a_view_weighs_the_storage_it_holds_on_to_and_shared_storage_counts_once() -> None:
    whole = torch.zeros(1000)
    assert nbytes(whole[:1]) == 4000 + OVERHEAD_BYTES
    assert nbytes((whole, whole[2:], whole.view(10, 100))) == 4000 + OVERHEAD_BYTES
    assert nbytes((torch.zeros(10), torch.zeros(10, dtype=torch.bfloat16))) == 60 + OVERHEAD_BYTES


def test_values_without_tensors_weigh_a_little() -> None:
    assert nbytes(5) == nbytes((5,)) == nbytes(()) == nbytes(None) == OVERHEAD_BYTES
    assert nbytes("abc") == nbytes(("abc",)) == OVERHEAD_BYTES + 3


def test_a_value_is_rebuilt_around_new_tensors_and_the_old_one_stays() -> None:
    value = Each([Box(torch.ones(2), inner={"k": [torch.ones(1)]}), Pair(torch.ones(3), "same")])
    found = rebuild(value, lambda tensor: tensor * 2)
    assert type(found) is Each and type(found[0]) is Box and type(found[1]) is Pair
    assert [tensor.sum().item() for tensor in tensors(found)] == [4, 2, 6]
    assert [tensor.sum().item() for tensor in tensors(value)] == [2, 1, 3]


def test_what_holds_no_tensor_stays_the_same_object() -> None:
    plain = {"a": [1, 2], "b": ("x",)}
    value = (plain, torch.ones(1))
    assert rebuild(plain, lambda tensor: tensor * 2) is plain
    assert rebuild(value, lambda tensor: tensor * 2)[0] is plain


def test_moving_to_another_device_moves_every_tensor() -> None:
    value = (torch.ones(2), [torch.ones(3)])
    assert device_of(value) == "cpu" == device_of(5) == device_of((5,))
    assert {str(tensor.device) for tensor in tensors(move(value, "meta"))} == {"meta"}
    assert move(value, "cpu")[0] is value[0]


class Tenant:
    def __init__(self, name: str, size: int, seconds: float = 1.0, pins: int = 0) -> None:
        self.name, self.nbytes, self.seconds, self.pins, self.score = name, size, seconds, pins, 0.0
        self.is_gone = False

    def evict(self) -> None:
        self.is_gone = True


def test_the_cheapest_per_byte_goes_first() -> None:
    ledger = Ledger("cpu", 100)
    dear, cheap, big = Tenant("dear", 40, 40.0), Tenant("cheap", 40, 4.0), Tenant("big", 50, 30.0)
    for tenant in (dear, cheap, big):
        ledger.add(tenant)
    assert [tenant.is_gone for tenant in (dear, cheap, big)] == [False, True, False]
    assert (ledger.used, ledger.evictions) == (90, 1)
    assert dear in ledger and cheap not in ledger


def test_age_makes_unused_tenants_sink_below_fresh_ones() -> None:
    ledger = Ledger("cpu", 30)
    old = Tenant("old", 10, 20.0)  # score 2
    ledger.add(old)
    for number in range(40):  # score 1 each above the age, which rises with every eviction
        ledger.add(Tenant(str(number), 10, 10.0))
    assert old.is_gone
    kept = Tenant("kept", 10, 20.0)
    ledger.add(kept)
    for number in range(40):
        ledger.touch(kept)
        ledger.add(Tenant(str(number), 10, 10.0))
    assert not kept.is_gone


def test_pinned_tenants_stay_even_over_the_budget() -> None:
    ledger = Ledger("cpu", 10)
    pinned = Tenant("pinned", 50, pins=1)
    ledger.add(pinned)
    assert (ledger.used, pinned.is_gone, ledger.make_room(0)) == (50, False, False)
    pinned.pins = 0
    assert ledger.make_room(5) and pinned.is_gone


def test_clearing_evicts_all_that_is_not_pinned() -> None:
    ledger = Ledger("cpu", 100)
    loose, pinned = Tenant("loose", 10), Tenant("pinned", 10, pins=1)
    ledger.add(loose)
    ledger.add(pinned)
    assert ledger.clear() == 10
    assert (loose.is_gone, pinned.is_gone, ledger.used) == (True, False, 10)
    pinned.pins = 0
    assert ledger.clear() == 10


def test_a_tenant_too_big_for_the_budget_goes_at_once() -> None:
    ledger = Ledger("cpu", 10)
    big = Tenant("big", 11)
    ledger.add(big)
    assert big.is_gone and ledger.used == 0


def test_places_of_tenants_that_left_by_themselves_do_not_pile_up() -> None:
    ledger = Ledger("cpu", 1000)
    for number in range(5000):
        tenant = Tenant(str(number), 10)
        ledger.add(tenant)
        ledger.remove(tenant)
    assert ledger.used == 0
    assert len(ledger._heap) < 200


class LedgerMachine(RuleBasedStateMachine):
    """The ledger against one that sorts: the same tenants go, in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger("cpu", 100)
        self.all: list[Tenant] = []
        self.age = 0.0
        self.here: dict[str, tuple[float, int]] = {}  # by name: score and number of arrival
        self.number = 0

    def trim(self, wanted: int = 0) -> None:
        by_name = {tenant.name: tenant for tenant in self.all}
        while sum(by_name[name].nbytes for name in self.here) + wanted > 100:
            loose = [name for name in self.here if by_name[name].pins == 0]
            if not loose:
                break
            lowest = min(loose, key=lambda name: self.here[name][0])
            self.age = max(self.age, self.here.pop(lowest)[0])

    @rule(size=st.integers(1, 60), pins=st.sampled_from([0, 0, 1]))
    def add(self, size: int, pins: int) -> None:
        self.number += 1
        tenant = Tenant(str(self.number), size, self.number * 0.37 + 1, pins)  # no two scores are alike
        self.all.append(tenant)
        self.ledger.add(tenant)
        self.here[tenant.name] = (self.age + tenant.seconds / size, self.number)
        self.trim()

    @rule(index=st.integers(0, 50))
    def touch(self, index: int) -> None:
        here = [tenant for tenant in self.all if tenant.name in self.here]
        if here:
            tenant = here[index % len(here)]
            self.ledger.touch(tenant)
            self.here[tenant.name] = (self.age + tenant.seconds / tenant.nbytes, 0)

    @rule(index=st.integers(0, 50))
    def remove(self, index: int) -> None:
        here = [tenant for tenant in self.all if tenant.name in self.here]
        if here:
            tenant = here[index % len(here)]
            self.ledger.remove(tenant)
            del self.here[tenant.name]

    @rule(index=st.integers(0, 50))
    def unpin(self, index: int) -> None:
        pinned = [tenant for tenant in self.all if tenant.pins]
        if pinned:
            pinned[index % len(pinned)].pins = 0
            self.ledger.make_room(0)
            self.trim()

    @rule(wanted=st.integers(0, 100))
    def make_room(self, wanted: int) -> None:
        self.ledger.make_room(wanted)
        self.trim(wanted)

    @invariant()
    def the_budget_holds_or_all_is_pinned(self) -> None:
        here = [tenant for tenant in self.all if tenant in self.ledger]
        assert self.ledger.used == sum(tenant.nbytes for tenant in here)
        assert self.ledger.used <= 100 or all(tenant.pins for tenant in here)

    @invariant()
    def the_same_tenants_are_here(self) -> None:
        assert {tenant.name for tenant in self.all if tenant in self.ledger} == set(self.here)


TestLedgerMachine = LedgerMachine.TestCase


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.001, 100)), max_size=30), st.integers(1, 120))
def test_a_ledger_without_pins_is_never_over_budget(tenants: list[tuple[int, float]], limit: int) -> None:
    ledger = Ledger("cpu", limit)
    for number, (size, seconds) in enumerate(tenants):
        ledger.add(Tenant(str(number), size, seconds))
        assert ledger.used <= limit
