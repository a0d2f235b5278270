"""What belongs together is of one family, or planning says who is the stranger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

from nodegraph.errors import FileProblem, WorkflowError
from nodegraph.session import Session
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import Port
from nodegraph.workflow import Workflow
from tests.nodegraph import trivial
from tests.nodegraph.trivial import REGISTRY, n

Engine = Annotated[int, Port("ENGINE", kin=True)]
Words = Annotated[int, Port("WORDS", kin=True)]
Picture = Annotated[int, Port("PICTURE")]


class Loaded(NamedTuple):
    ENGINE: Engine
    WORDS: Words


def family(*, name: str = "", **_: Any) -> str | None:
    if name == "broken":
        raise FileProblem("broken")
    return name or None


@node("LoadKin", category="t", family=family)
def load_kin(*, name: str = "") -> Loaded:
    return Loaded(1, 2)


@node("Say", category="t")
def say(*, words: Words) -> Words:
    return words


@node("Tune", category="t", family=family)
def tune(*, engine: Engine, words: Words | None = None, name: str = "") -> Engine:
    return engine


@node("Paint", category="t", kind="sink")
def paint(*, engine: Engine, words: Words, more: Words | None = None) -> Picture:
    return engine + words


@node("Repaint", category="t", kind="sink")
def repaint(*, engine: Engine, picture: Picture) -> Picture:
    return engine + picture


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    specs = [getattr(function, NODE_ATTRIBUTE) for function in (load_kin, say, tune, paint, repaint)]
    with trivial.session(tmp_path, REGISTRY.with_specs(specs)) as made:
        yield made


def document(first: str, second: str) -> dict[str, Any]:
    return {
        "a": n("LoadKin", name=first), "b": n("LoadKin", name=second), "s": n("Say", words=["b", 1]),
        "p": n("Paint", engine=["a", 0], words=["s", 0]),
    }  # fmt: skip


def test_values_of_two_families_are_told_with_both_nodes(session: Session) -> None:
    with pytest.raises(WorkflowError) as error:
        session.prepare(Workflow.of(document("red", "blue")))
    (problem,) = error.value.problems
    assert (problem.node, problem.input) == ("p", "words")
    assert problem.what == "words is of blue (from node b) but engine of red (from node a)"
    assert problem.fix == "load both from one checkpoint"


def test_one_family_from_two_files_is_fine(session: Session) -> None:
    assert trivial.run(session, document("red", "red")).values == {"p": 3}


@pytest.mark.parametrize("second", ["", "broken"])
def test_what_has_no_known_family_fits_anything(session: Session, second: str) -> None:
    assert trivial.run(session, document("red", second)).values == {"p": 3}


def test_a_family_ends_at_a_port_that_is_not_kin(session: Session) -> None:
    graph = document("red", "red") | {
        "c": n("LoadKin", name="blue"),
        "r": n("Repaint", engine=["c", 0], picture=["p", 0]),
    }
    assert trivial.run(session, graph).values["r"] == 4


def tuned(name: str) -> dict[str, Any]:
    graph = document("red", "red")
    return graph | {"t": n("Tune", engine=["a", 0], name=name), "p": n("Paint", engine=["t", 0], words=["s", 0])}


def test_a_file_put_on_a_value_of_another_family_is_told(session: Session) -> None:
    with pytest.raises(WorkflowError) as error:
        session.prepare(Workflow.of(tuned("blue")))
    (problem,) = error.value.problems
    assert (problem.node, problem.fix) == ("t", "choose one made for this model")
    assert problem.what == "name is of blue but engine is of red (from node a)"


@pytest.mark.parametrize("name", ["red", "", "broken"])
def test_a_file_of_the_same_or_an_unknown_family_may_be_put_on(session: Session, name: str) -> None:
    assert trivial.run(session, tuned(name)).values == {"p": 3}


def test_what_a_file_was_put_on_stays_of_its_family(session: Session) -> None:
    graph = tuned("") | {"b": n("LoadKin", name="blue")}
    with pytest.raises(WorkflowError) as error:
        session.prepare(Workflow.of(graph))
    assert [problem.what for problem in error.value.problems] == [
        "words is of blue (from node b) but engine of red (from node a)"
    ]
