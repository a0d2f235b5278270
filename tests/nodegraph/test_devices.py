"""Devices by name, and lanes that keep their order."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from nodegraph import devices
from nodegraph.devices import Device, Lane, loaded_torch, pick_device, visible_devices
from nodegraph.errors import NodegraphError
from tests.nodegraph.trivial import PATIENCE


def test_a_lane_does_the_lowest_number_first_then_in_order_of_arrival() -> None:
    lane, done = Lane("t"), []
    entered, hold = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        assert hold.wait(PATIENCE)

    lane.submit(block)
    assert entered.wait(PATIENCE)
    for name, priority in [("c", 1), ("a", -1), ("d", 1), ("b", 0)]:
        lane.submit(lambda name=name: done.append(name), priority)
    hold.set()
    lane.close()
    assert done == ["a", "b", "c", "d"]


def test_a_closed_lane_begins_again_when_asked() -> None:
    lane, done = Lane("t"), []
    lane.close()
    lane.submit(lambda: done.append(1))
    lane.close()
    lane.submit(lambda: done.append(2))
    lane.close()
    assert done == [1, 2]


def test_a_job_that_fails_does_not_stop_the_lane(caplog: pytest.LogCaptureFixture) -> None:
    lane, done = Lane("t"), []
    with caplog.at_level(logging.ERROR):
        lane.submit(lambda: 1 // 0)
        lane.submit(lambda: done.append(1))
        lane.close()
    assert done == [1]
    assert "a job of lane t failed" in caplog.text


def test_devices_are_picked_by_name() -> None:
    assert pick_device("cpu") == Device("cpu")
    assert (pick_device("cuda:1").kind, pick_device("cuda:1").name) == ("cuda", "cuda:1")
    assert pick_device("auto").kind in ("cpu", "cuda")
    with pytest.raises(NodegraphError, match=r"device 'cdua' is unknown.*did you mean 'cuda'"):
        pick_device("cdua")
    free, total = Device("cpu").memory()
    assert 0 < free <= total
    assert str(Device("cpu").torch) == "cpu"


def test_torch_that_is_still_being_imported_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert loaded_torch() is torch
    torch.__spec__._initializing = True  # type: ignore[attr-defined]
    assert loaded_torch() is None
    monkeypatch.delitem(sys.modules, "torch")
    assert loaded_torch() is None


def test_every_gpu_is_worth_a_worker_and_else_the_cpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, names in ((0, ["cpu"]), (1, ["cuda:0"]), (3, ["cuda:0", "cuda:1", "cuda:2"])):
        monkeypatch.setattr(devices, "_count_cuda", lambda count=count: count)
        assert visible_devices() == names
        assert pick_device("auto").kind == ("cuda" if count else "cpu")


def test_looking_for_devices_imports_no_torch() -> None:
    script = (
        "import sys; from nodegraph.devices import pick_device, visible_devices, loaded_torch;"
        " visible_devices(), pick_device(); print('torch' in sys.modules, loaded_torch())"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "None"]
