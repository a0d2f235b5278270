"""The table of node types: copy on write, and folders of user files."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.errors import DefinitionError
from nodegraph.registry import Registry
from nodegraph.spec import spec_of
from tests.nodegraph.trivial import REGISTRY, SPECS

FILE = """
from nodegraph import node

@node({name!r}, category="t")
def f(*, a: int = {value}) -> int:
    return a + {value}
"""


def test_adding_makes_a_new_registry() -> None:
    empty = Registry()
    full = empty.with_specs(SPECS)
    assert (len(empty), len(full)) == (0, len(SPECS))
    assert full.get("Add") is not None and empty.get("Add") is None
    assert full.nearest("addd") == "Add"
    assert {spec.name for spec in full} == {spec.name for spec in SPECS}


def test_an_id_taken_by_another_function_is_refused_and_changes_nothing() -> None:
    def other(*, a: int) -> int: ...

    before = dict(REGISTRY.specs)
    with pytest.raises(DefinitionError, match=r"node 'Add' is defined in .*trivial and again in .*; rename one"):
        REGISTRY.with_specs([spec_of(other, "Add")])
    assert REGISTRY.specs == before
    assert len(REGISTRY.with_specs(SPECS)) == len(REGISTRY)


def test_a_broken_file_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "a_good.py").write_text(FILE.format(name="Good", value=1))
    (tmp_path / "b_syntax.py").write_text("def broken(:\n")
    (tmp_path / "c_raises.py").write_text("raise RuntimeError('no')\n")
    (tmp_path / "d_wrong.py").write_text(
        "from nodegraph import node\n@node('Wrong', category='t')\ndef f(a: int) -> int: ...\n"
    )
    (tmp_path / "e_also.py").write_text(FILE.format(name="Also", value=2))
    (tmp_path / "__init__.py").write_text("raise RuntimeError('not a node file')\n")
    found = Registry().with_folder(tmp_path)
    assert sorted(found.specs) == ["Also", "Good"]
    reasons = {Path(file).name: reason for file, reason in found.failures.items()}
    assert sorted(reasons) == ["b_syntax.py", "c_raises.py", "d_wrong.py"]
    assert "SyntaxError" in reasons["b_syntax.py"]
    assert reasons["c_raises.py"] == "RuntimeError('no')"
    assert "must be keyword-only" in reasons["d_wrong.py"]


def test_two_files_with_one_id_are_told_and_the_first_stays(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(FILE.format(name="Same", value=1))
    (tmp_path / "b.py").write_text(FILE.format(name="Same", value=2))
    found = Registry().with_folder(tmp_path)
    assert found.specs["Same"].function(a=1) == 2
    assert list(map(lambda name: Path(name).name, found.failures)) == ["b.py"]
    assert "rename one of them" in next(iter(found.failures.values()))


def test_equal_file_names_in_two_folders_do_not_meet(tmp_path: Path) -> None:
    for name in ("One", "Two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nodes.py").write_text(FILE.format(name=name, value=1))
    found = Registry().with_folder(tmp_path / "One").with_folder(tmp_path / "Two")
    assert sorted(found.specs) == ["One", "Two"] and not found.failures


def test_an_edited_file_loaded_again_has_a_new_version(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(FILE.format(name="Same", value=1))
    before = Registry().with_folder(tmp_path).specs["Same"]
    (tmp_path / "a.py").write_text(FILE.format(name="Same", value=123))
    after = Registry().with_folder(tmp_path).specs["Same"]
    assert (before.function(a=0), after.function(a=0)) == (1, 123)
    assert before.version != after.version


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="does not exist; create it or correct --node-path"):
        Registry().with_folder(tmp_path / "none")


def test_the_built_in_nodes_are_found_by_entry_point() -> None:
    found = Registry().with_entry_points()
    assert {"KSampler", "CLIPTextEncode", "Switch"} <= set(found.specs)
    assert not found.failures
