"""Cached values that name files follow the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
import torch

from nodegraph.places import placed
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import Each, File, FileRef, Port
from tests.nodegraph import trivial
from tests.nodegraph.trivial import REGISTRY, n


@dataclass(frozen=True, slots=True)
class Weights:
    path: str
    digest: str
    over: tuple[Any, ...] = ()


class Pair(NamedTuple):
    first: Any
    second: Any


def test_every_record_of_a_moved_file_is_turned_wherever_it_stands() -> None:
    old, other = Weights("/a/x", "X"), Weights("/a/y", "Y")
    value = Pair(Weights("/a/y", "Y", (old,)), {"deep": [Each((old, 1)), other]})
    found = placed(value, {"X": "/b/z"})
    moved = Weights("/b/z", "X")
    assert found == Pair(Weights("/a/y", "Y", (moved,)), {"deep": [Each((moved, 1)), other]})
    assert type(found) is Pair and type(found.second["deep"][0]) is Each and found.second["deep"][1] is other


def test_what_has_not_moved_stays_the_same_object() -> None:
    value = ([Weights("/a/x", "X"), torch.zeros(2)], {"a": 1}, "X")
    assert placed(value, {"X": "/a/x", "Y": "/b"}) is value


def test_a_part_of_a_folder_stays_a_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "new" / "unet").mkdir(parents=True)
    found = placed(Weights("/old/unet", "X"), {"X": str(tmp_path / "new")})
    assert found.path == str(tmp_path / "new" / "unet")


Record = Annotated[Weights, Port("RECORD")]


@node("Point", category="t")
def point(*, name: Annotated[FileRef, File("loras")]) -> Record:
    return Weights(name.path, name.digest)


@node("Keep", category="t")
def keep(*, record: Record) -> Record:
    return Weights("/nothing", "", (record,))


@node("Read", category="t", kind="sink")
def read(*, record: Record, times: int) -> str:
    return Path(record.over[0].path).read_text() * times


@pytest.mark.parametrize("is_restarted", [False, True])
def test_files_that_change_names_are_read_under_their_new_ones(tmp_path: Path, is_restarted: bool) -> None:
    folder = tmp_path / "models" / "loras"
    folder.mkdir(parents=True)
    (folder / "a.pt").write_text("one")
    (folder / "b.pt").write_text("two")
    registry = REGISTRY.with_specs([getattr(function, NODE_ATTRIBUTE) for function in (point, keep, read)])

    def document(name: str, times: int) -> dict[str, Any]:
        return {
            "p": n("Point", name=name),
            "k": n("Keep", record=["p", 0]),
            "r": n("Read", record=["k", 0], times=times),
        }

    with trivial.session(tmp_path, registry) as session:
        assert trivial.run(session, document("a.pt", 1)).values == {"r": "one"}
        (folder / "a.pt").rename(folder / "c.pt")
        (folder / "b.pt").rename(folder / "a.pt")
        if not is_restarted:
            found = trivial.run(session, document("c.pt", 2))
            assert (found.values, found.ran) == ({"r": "oneone"}, ["r"])
    if is_restarted:
        with trivial.session(tmp_path, registry) as session:
            assert trivial.run(session, document("c.pt", 2)).values == {"r": "oneone"}
