"""Running with the cache equals running without it, and runs no more than it has to."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from nodegraph.events import Event
from nodegraph.execute import Run
from nodegraph.scheduler import Task
from nodegraph.workflow import Workflow
from tests.nodegraph.trivial import PATIENCE, run
from tests.property.graphs import Model
from tests.property.incremental import Life, live, shuffled, store_all

SEEDS = st.integers(0, 2**32)


def in_folder(seed: int, **how: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live(Path(folder), seed, **how)


@budget(max_examples=600)
@given(SEEDS)
def test_incremental_equals_from_scratch_and_runs_only_what_is_new(seed: int) -> None:
    in_folder(seed)


@budget(max_examples=200)
@given(SEEDS, st.sampled_from([1, 64, 200, 500]))
def test_evictions_change_no_value(seed: int, ram_limit: int) -> None:
    in_folder(seed, ram_limit=ram_limit)


@budget(max_examples=80)
@given(SEEDS)
def test_after_a_restart_only_what_changed_runs(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        store_all(patch)
        in_folder(seed, restarts=True)


@budget(max_examples=80)
@given(SEEDS)
def test_restarts_and_evictions_change_no_value(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        store_all(patch)
        in_folder(seed, restarts=True, ram_limit=130)


@budget(max_examples=200)
@given(SEEDS)
def test_any_order_of_lanes_gives_the_same(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__lt__", shuffled(seed))
        in_folder(seed, lanes=True)


@budget(max_examples=100)
@given(SEEDS, st.integers(0, 40))
def test_interrupted_at_any_event_the_next_run_equals_scratch(seed: int, at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), seed)
        try:
            prepared = life.session.prepare(Workflow.of(life.document), scope="life")
            seen: list[Event] = []

            def note(event: Event) -> None:
                seen.append(event)
                if len(seen) == at + 2:
                    made.cancel()

            made = Run(life.session, "r", prepared.plan, prepared.planner, document=None, scope="life", priority=0,
                       wants_values=True, emit=note)  # fmt: skip
            made.start()
            assert made.over.wait(PATIENCE), f"hangs after {seen[-3:]}"
            made.release()
            life.settle()
            model = life.model()
            ran = [name for name in made.ran if name in model.recipes and not _needs_kind(model, name, "Always")]
            life.known = {model.recipes[name] for name in ran}
            life.runs -= 1
            life.check()
            life.step()
        finally:
            life.session.close()


@budget(max_examples=100)
@given(SEEDS)
def test_after_a_failure_anywhere_the_mended_document_equals_scratch(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), seed)
        try:
            names = [name for name, body in life.document.items() if body["class_type"] in FAILING]
            if names:
                name = life.chance.choice(names)
                links = [value for value in life.document[name]["inputs"].values() if type(value) is list]
                broken = {"class_type": "Fail", "inputs": {"a": links[0]} if links else {}}
                found = run(life.session, {**life.document, name: broken}, scope="life")
                assert set(found.errors) <= {name}
                assert found.status == ("error" if name in found.errors else "success")
                life.settle()
                model = life.model()
                needs = {other for other in found.ran if other in model.recipes and not _needs(model, other, name)}
                life.known = {model.recipes[other] for other in needs if not _needs_kind(model, other, "Always")}
                life.runs -= 1
            life.check()
        finally:
            life.session.close()


FAILING = ("Add", "Mul", "AsyncAdd", "Const", "Pick", "Sum")


def _upstream(model: Model, name: str) -> set[str]:
    """A node and all that its value is made of."""
    found: set[str] = set()
    stack = [name]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += [part[1] for part in map(model.follow, model.items[name].inputs.values()) if part[0] == "link"]
    return found


def _needs(model: Model, name: str, other: str) -> bool:
    return other in _upstream(model, name)


def _needs_kind(model: Model, name: str, kind: str) -> bool:
    return any(model.items[other].kind == kind for other in _upstream(model, name))
