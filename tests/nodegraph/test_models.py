"""Loaded weights: one copy, evicted like anything else, never while in use."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
import torch
from torch import nn

from nodegraph.devices import Device, DType
from nodegraph.memory import Ledger
from nodegraph.models import Models
from tests.nodegraph.trivial import PATIENCE


class Weights:
    def __init__(self, fingerprint: str, size: int = 100, role: str = "unet") -> None:
        self.fingerprint, self.base, self.role, self.parameters = fingerprint, fingerprint, role, size
        self.nbytes = size * 4
        self.dtype: DType = "auto"
        self.loads: list[tuple[str, torch.dtype]] = []
        self.error: Exception | None = None

    def load(self, device: torch.device, dtype: torch.dtype, variants: Any = ()) -> Any:
        self.loads.append((str(device), dtype))
        if self.error is not None:
            raise self.error
        return nn.Linear(self.parameters, 1, bias=False, dtype=dtype)


def models(budget: int = 10_000, dtype: Any = "auto", device: str = "cpu") -> tuple[Models, Ledger]:
    ledger = Ledger("cpu", budget)
    return Models(Device(device), dtype, lambda: ledger, threading.RLock()), ledger


def test_equal_fingerprints_are_one_copy() -> None:
    made, ledger = models()
    one, same = Weights("a"), Weights("a")
    with made.use(one) as first, made.use(same) as second:
        assert first is second
    assert (len(one.loads), len(same.loads), made.loads, ledger.used) == (1, 0, 1, 400)


def test_dtypes_follow_the_policy() -> None:
    both = Weights("u"), Weights("v", role="vae")
    assert [models()[0].dtype_of(weights) for weights in both] == ["fp32", "fp32"]
    assert [models(device="cuda")[0].dtype_of(weights) for weights in both] == ["fp16", "bf16"]
    made, ledger = models(dtype="bf16")
    with made.use(Weights("a")) as module:
        assert module.weight.dtype == torch.bfloat16
    assert ledger.used == 200
    exact = Weights("a")
    exact.dtype = "fp32"
    with made.use(exact) as module:
        assert module.weight.dtype == torch.float32


def test_the_least_worth_is_evicted_and_loaded_again() -> None:
    made, ledger = models(budget=900)
    a, b, c = Weights("a"), Weights("b"), Weights("c")
    for weights in (a, b, c):
        with made.use(weights):
            assert ledger.used <= 900
    assert len(made.loaded) == 2
    for weights in (a, b, c):
        with made.use(weights):
            pass
    assert made.loads > 3 and ledger.used <= 900


def test_what_is_in_use_stays_and_goes_after() -> None:
    made, ledger = models(budget=500)
    with made.use(Weights("a")) as a, made.use(Weights("b")):
        assert ledger.used == 800 and len(made.loaded) == 2
        assert a.weight.shape == (1, 100)
    assert ledger.used <= 500


def test_room_is_made_before_a_model_is_loaded() -> None:
    made, ledger = models(budget=500)
    with made.use(Weights("a")):
        pass
    used: list[int] = []

    class Watching(Weights):
        def load(self, device: torch.device, dtype: torch.dtype, variants: Any = ()) -> Any:
            used.append(ledger.used)
            return super().load(device, dtype)

    with made.use(Watching("b")):
        assert used == [0]


def test_a_load_that_fails_leaves_nothing_and_may_be_tried_again() -> None:
    made, ledger = models()
    weights = Weights("a")
    weights.error = RuntimeError("out of luck")
    with pytest.raises(RuntimeError, match="out of luck"), made.use(weights):
        pass
    assert (ledger.used, len(made.loaded)) == (0, 0)
    weights.error = None
    with made.use(weights):
        assert ledger.used == 400


def test_an_error_inside_the_block_lets_go() -> None:
    made, _ = models()
    with pytest.raises(ValueError), made.use(Weights("a")):
        raise ValueError
    assert [entry.pins for entry in made.loaded.values()] == [0]


def test_two_threads_load_one_copy() -> None:
    made, _ = models()
    entered, hold = threading.Event(), threading.Event()

    class Slow(Weights):
        def load(self, device: torch.device, dtype: torch.dtype, variants: Any = ()) -> Any:
            entered.set()
            assert hold.wait(PATIENCE)
            return super().load(device, dtype)

    weights = Slow("a")
    found: list[Any] = []

    def work() -> None:
        with made.use(weights) as module:
            found.append(module)

    threads = [threading.Thread(target=work) for _ in range(2)]
    threads[0].start()
    assert entered.wait(PATIENCE)
    threads[1].start()
    with made.use(Weights("other")):  # other weights need not wait
        pass
    hold.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found[0] is found[1] and len(weights.loads) == 1


def test_tied_weights_count_once() -> None:
    made, ledger = models()

    class Tied(Weights):
        def load(self, device: torch.device, dtype: torch.dtype, variants: Any = ()) -> Any:
            module = nn.Module()
            base = torch.zeros(100)
            module.register_buffer("a", base)
            module.register_buffer("b", base[:50])
            return module

    with made.use(Tied("a")):
        assert ledger.used == 400


def test_a_small_model_on_the_cpu_gets_one_thread_for_as_long_as_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        made, _ = models()
        with made.use(Weights("a")), made.use(Weights("b")):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        monkeypatch.setattr("nodegraph.models.SMALL_BYTES", 10)
        with made.use(Weights("a")):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_variant_is_as_large_as_all_it_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodegraph.models.SMALL_BYTES", 60 * 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail("it is not small"))
    made, _ = models()
    with made.use(Variant("plain")), made.use(Variant("changed")):
        assert [entry.nbytes for entry in made.loaded.values()] == [100 * 4, 40 * 4]


def test_small_models_lent_at_once_leave_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    made, _ = models()
    first, second = made.use(Weights("a")), made.use(Weights("b"))
    with first:
        second.__enter__()
    assert threads[-1] == 1
    second.__exit__(None, None, None)
    assert threads[-1] == 4


class Variant(Weights):
    """A shared weight of 60 numbers and one of its own of 40, all of one base."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.base = "base"
        self.given: list[int] = []

    def load(self, device: torch.device, dtype: torch.dtype, variants: Any = ()) -> Any:
        self.given.append(len(variants))
        shared = variants[0].shared if variants else nn.Parameter(torch.zeros(60))
        made = nn.Module()
        made.shared, made.own = shared, nn.Parameter(torch.zeros(40))
        return made


def test_variants_share_tensors_which_count_once() -> None:
    made, ledger = models()
    plain, changed = Variant("plain"), Variant("changed")
    with made.use(plain) as first, made.use(changed) as second:
        assert first.shared is second.shared
        assert ledger.used == (60 + 40 + 40) * 4
    assert (plain.given, changed.given) == ([0], [1])


def test_what_variants_share_is_counted_on_when_the_first_goes() -> None:
    made, ledger = models(budget=(60 + 40 + 40) * 4)
    with made.use(Variant("plain")):
        pass
    with made.use(Variant("changed")):
        ledger.make_room(160)
        assert [key[0] for key in made.loaded] == ["changed"]
        assert ledger.used == 100 * 4
    ledger.clear()
    assert (ledger.used, dict(made.loaded)) == (0, {})


def test_of_many_variants_the_last_two_stay_and_those_in_use() -> None:
    made, ledger = models()
    with made.use(Variant("held")):
        for name in "abc":
            with made.use(Variant(name)):
                pass
        assert [key[0] for key in made.loaded] == ["held", "c"]
        assert ledger.used == (60 + 2 * 40) * 4
    with made.use(Variant("c")), made.use(Variant("d")):
        pass
    assert [key[0] for key in made.loaded] == ["c", "d"]
    gc.collect()
    assert len(made._loading) == 0  # pyright: ignore[reportPrivateUsage]  # what a slider went through leaves nothing
