"""Planted key bugs: the incremental property must fail under each, or its generators are too tame."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nodegraph.execute
import nodegraph.plan
from nodegraph import keys
from nodegraph.files import Folders
from nodegraph.plan import Planner
from tests.nodegraph import trivial
from tests.nodegraph.trivial import REGISTRY, n, run
from tests.property.incremental import live

LIVES = 300
Mutant = Callable[[pytest.MonkeyPatch], None]


def slot_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "link_part", lambda tag, key, slot: keys.link_part(tag, key, 0))


def upstream_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "link_part", lambda tag, key, slot: keys.link_part(tag, b"", slot))


def literal_value_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "canonical", lambda value: keys.canonical(type(value).__name__))


def literal_type_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        nodegraph.plan,
        "canonical",
        lambda value: keys.canonical(str(float(value)) if type(value) in (int, bool) else str(value)),
    )


def sign_of_zero_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        nodegraph.plan, "canonical", lambda value: keys.canonical(0.0 if type(value) is float and value == 0 else value)
    )


def version_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "node_prefix", lambda name, version, salt: keys.node_prefix(name, "", salt))


def type_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "node_prefix", lambda name, version, salt: keys.node_prefix("", "", salt))


def inputs_sorted_without_their_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "input_tag", lambda name: b"")
    patch.setattr(nodegraph.plan, "node_key", lambda prefix, parts: keys.node_key(prefix, sorted(parts)))


def one_input_dropped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "node_key", lambda prefix, parts: keys.node_key(prefix, list(parts)[:1]))


def file_by_name(patch: pytest.MonkeyPatch) -> None:
    find = Folders.find
    patch.setattr(Folders, "find", lambda self, kind, name: find(self, kind, name)._replace(digest=name))


def always_only_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Planner, "_outside", lambda *_: b"")


def old_plan_taken_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.plan, "_is_unchanged", lambda step, node, spec, steps, old: step.spec is spec)


def plan_blind_to_upstream(patch: pytest.MonkeyPatch) -> None:
    def is_unchanged(step: Any, node: Any, spec: Any, *_: Any) -> bool:
        return step.spec is spec and dict(step.given) == dict(node.inputs)

    patch.setattr(nodegraph.plan, "_is_unchanged", is_unchanged)


def expansions_with_one_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodegraph.execute, "_expansion_id", lambda node, name: f"{node}.1")


def forwarded_slot_lost(patch: pytest.MonkeyPatch) -> None:
    key = Planner.key

    def wrong(self: Planner, step: Any, sources: Any) -> Any:
        return key(
            self, step, {name: (source[0], 0) if type(source) is tuple else source for name, source in sources.items()}
        )

    patch.setattr(Planner, "key", wrong)


def forwarded_key_lost(patch: pytest.MonkeyPatch) -> None:
    key = Planner.key
    patch.setattr(Planner, "key", lambda self, step, sources: key(self, step, {}))


def keys_of_ids(patch: pytest.MonkeyPatch) -> None:
    """Sound but not minimal: work is not shared."""
    step = Planner._step

    def wrong(self: Planner, node: Any, *rest: Any) -> Any:
        made = step(self, node, *rest)
        return made._replace(key=keys.digest("id", made.key or b"", node.id) if made.key else None)

    patch.setattr(Planner, "_step", wrong)


MUTANTS: list[Mutant] = [
    slot_ignored, upstream_ignored, literal_value_ignored, literal_type_ignored, sign_of_zero_ignored, version_ignored,
    type_ignored, inputs_sorted_without_their_names, one_input_dropped, file_by_name, always_only_once,
    old_plan_taken_over, plan_blind_to_upstream, expansions_with_one_id, forwarded_slot_lost, forwarded_key_lost,
    keys_of_ids,
]  # fmt: skip


def lives(count: int) -> None:
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            live(Path(folder), seed)


def test_without_a_mutant_every_life_is_sound() -> None:
    lives(LIVES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        with pytest.raises((AssertionError, IndexError, TypeError)):
            lives(LIVES)


# Where sinks write is not in the life above


def files_of_two_outputs(folder: Path) -> list[list[str]]:
    """The files that one document leaves when it is run into two output folders over one cache."""
    document = {"a": n("Const", value=3), "save": n("SaveText", value=("a", 0))}
    found: list[list[str]] = []
    for name in ("first", "second"):
        with trivial.session(folder, REGISTRY, cache_dir=folder / "cache", output_dir=folder / name) as session:
            assert run(session, document).status == "success"
        found.append(sorted(path.name for path in (folder / name).glob("*")))
    return found


def test_another_output_folder_gets_its_own_files(tmp_path: Path) -> None:
    assert files_of_two_outputs(tmp_path) == [["note_00001_.txt"], ["note_00001_.txt"]]


def test_a_dropped_sink_salt_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = keys.digest
    monkeypatch.setattr(
        nodegraph.plan, "digest", lambda tag, *parts: digest(tag, *(parts[:1] if tag == "sink" else parts))
    )
    assert files_of_two_outputs(tmp_path) != [["note_00001_.txt"], ["note_00001_.txt"]]
