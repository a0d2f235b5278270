"""Why a node ran: every reason, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

import nodegraph.cache
from nodegraph.session import Session
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import File, FileRef
from nodegraph.why import Recipe
from tests.nodegraph import trivial
from tests.nodegraph.trivial import REGISTRY, n, run
from tests.property.graphs import registry

STATE = ["one"]


@node("Read", category="t")
def read(*, file: Annotated[FileRef, File("input")]) -> str:
    return Path(file.path).read_text()


@node("State", category="t", fingerprint=lambda **_: STATE[0])
def state(*, a: int = 0) -> str:
    return STATE[0]


BASE = {"a": n("Const", value=1), "b": n("Mul", a=("a", 0), b=2), "out": n("Show", value=("b", 0))}


def test_a_first_run_is_a_first_run(session: Session) -> None:
    assert run(session, BASE).why == {"a": "first run", "b": "first run", "out": "first run"}


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"b": n("Mul", a=("a", 0), b=3)}, {"b": "b changed from 2 to 3", "out": "value changed upstream (node b)"}),
        ({"b": n("Mul", a=7, b=3)}, {"b": "a changed from node a output 0 to 7; b changed from 2 to 3"}),
        ({"b": n("Add", a=("a", 0), b=2)}, {"b": "its type changed from Mul to Add"}),
        (
            {"b": n("Mul", a=("x", 0), b=2), "x": n("Const", value=5)},
            {"x": "first run", "b": "a changed from node a output 0 to node x output 0"},
        ),
        ({"a": n("Const", value=4)}, {"a": "value changed from 1 to 4", "b": "a changed upstream (node a)"}),
    ],
)
def test_a_changed_input_is_named(session: Session, change: dict[str, Any], reasons: dict[str, str]) -> None:
    run(session, BASE)
    found = run(session, {**BASE, **change})
    assert {name: found.why[name] for name in reasons} == reasons
    assert set(found.ran) == {*reasons, "out", *(["b"] if "a" in change else [])}


def test_long_values_are_shortened(session: Session) -> None:
    run(session, {"a": n("Text", text="x" * 100), "out": n("Show", value=("a", 0))})
    found = run(session, {"a": n("Text", text="y" * 100), "out": n("Show", value=("a", 0))})
    assert found.why["a"] == f"text changed from '{'x' * 36}... to '{'y' * 36}..."


def test_changed_code_is_told(session: Session) -> None:
    session.registry = registry(0)
    run(session, BASE)
    session.registry = registry(1)
    found = run(session, BASE)
    assert (found.ran, found.why["b"]) == (["b", "out"], "its code changed")


def test_a_changed_file_and_changed_outside_state_are_told(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    file = tmp_path / "input" / "a.txt"
    file.write_text("one")
    document = {
        "r": n("Read", file="a.txt"),
        "s": n("State"),
        "x": n("Show", value=("r", 0)),
        "y": n("Show", value=("s", 0)),
    }
    specs = [getattr(each, NODE_ATTRIBUTE) for each in (read, state)]
    with trivial.session(tmp_path, REGISTRY.with_specs(specs)) as session:
        STATE[0] = "one"
        assert run(session, document).values == {"x": "one", "y": "one"}
        assert run(session, document).ran == []
        file.write_text("two")
        STATE[0] = "two"
        found = run(session, document)
        assert found.values == {"x": "two", "y": "two"}
        assert found.why["r"] == "the content of file 'a.txt' changed"
        assert found.why["s"] == "what it reads outside the workflow changed"


def test_a_lost_result_and_a_node_that_always_runs_are_told(tmp_path: Path) -> None:
    with trivial.session(tmp_path, ram_limit=1) as session:
        document = {**BASE, "z": n("Always"), "w": n("Show", value=("z", 0))}
        run(session, document)
        found = run(session, document)
        assert found.why["a"] == "its result is no longer in the cache"
        assert found.why["z"] == "it runs every time"


def test_changed_settings_are_told_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodegraph.cache, "OPEN_SECONDS", -1.0)
    with trivial.session(tmp_path, cache_dir=tmp_path / "cache") as session:
        run(session, BASE, scope="s")
    with trivial.session(tmp_path, cache_dir=tmp_path / "cache", dtype="bf16") as session:
        found = run(session, BASE, scope="s")
        assert set(found.why.values()) == {"settings changed (device, dtype, output folder or versions)",
        "a changed upstream (node a)",
                                           "value changed upstream (node b)"}  # fmt: skip
    with trivial.session(tmp_path, cache_dir=tmp_path / "cache", dtype="bf16") as session:
        found = run(session, {**BASE, "b": n("Mul", a=("a", 0), b=9)}, scope="s")
        assert (found.ran, found.why["b"]) == (["b", "out"], "b changed from 2 to 9")


def test_a_recipe_survives_json(session: Session) -> None:
    step = run(session, BASE).plan.steps["b"]
    recipe = Recipe.of(step)
    assert Recipe.from_json(recipe.as_json()) == recipe
