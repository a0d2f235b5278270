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


def family(*, name: str = "") -> str | None:
    if name == "broken":
        raise FileProblem("broken")
    return name or None


@node("LoadKin", category="t", family=family)
def load_kin(*, name: str = "") -> Loaded:
    return Loaded(1, 2)


@node("Say", category="t")
def say(*, words: Words) -> Words:
    return words


@node("Paint", category="t", kind="sink")
def paint(*, engine: Engine, words: Words, more: Words | None = None) -> Picture:
    return engine + words


@node("Repaint", category="t", kind="sink")
def repaint(*, engine: Engine, picture: Picture) -> Picture:
    return engine + picture


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    specs = [getattr(function, NODE_ATTRIBUTE) for function in (load_kin, say, paint, repaint)]
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
