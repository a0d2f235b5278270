"""Control nodes, through a session."""

from __future__ import annotations

import json

import pytest

from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import spec_of
from nodegraph.workflow import Workflow


def double(*, n: int) -> int:
    return 2 * n


def join(*, parts: list[str]) -> str:
    return "|".join(parts)


def upper(*, text: str) -> str:
    return text.upper()


@pytest.fixture
def session(tmp_path):
    (tmp_path / "workflows").mkdir()
    step = {"nodegraph": 1, "nodes": {"d": {"class_type": "Double", "inputs": {"n": 1}}},
            "inputs": {"n": {"bind": ["d.n"]}}, "outputs": {"n": "d.0"}}  # fmt: skip
    (tmp_path / "workflows" / "step.json").write_text(json.dumps(step))
    specs = [spec_of(double, "Double"), spec_of(join, "Join"), spec_of(upper, "Upper")]
    registry = Registry().with_entry_points().with_specs(specs)
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None), registry=registry) as session:
        yield session


def run(session, nodes, target):
    running = session.submit(
        session.prepare(Workflow.of({"nodegraph": 1, "nodes": nodes}), [target]), wants_values=True
    )
    assert running.wait().status == "success", running.errors
    return running.value(target), running.ran


def test_a_switch_runs_one_branch_and_an_edit_of_the_other_runs_nothing(session):
    nodes = {
        "a": {"class_type": "Double", "inputs": {"n": 1}},
        "b": {"class_type": "Double", "inputs": {"n": 5}},
        "s": {"class_type": "Switch", "inputs": {"condition": False, "on_true": ["a", 0], "on_false": ["b", 0]}},
        "x": {"class_type": "Double", "inputs": {"n": ["s", 0]}},
    }
    assert run(session, nodes, "x") == (20, ["s", "b", "x"])
    nodes["a"]["inputs"]["n"] = 9
    assert run(session, nodes, "x") == (20, ["s"])


def test_a_reroute_takes_any_link_and_never_runs(session):
    spec = session.registry.specs["Reroute"]
    assert (spec.title, spec.category, [(item.port, item.literal) for item in spec.inputs]) == (
        "Reroute", "utils", [("*", None)]
    )  # fmt: skip
    assert [output.port for output in spec.outputs] == ["*"]
    nodes = {
        "a": {"class_type": "Double", "inputs": {"n": 1}},
        "r": {"class_type": "Reroute", "inputs": {"value": ["a", 0]}},
        "x": {"class_type": "Double", "inputs": {"n": ["r", 0]}},
    }
    assert run(session, nodes, "x") == (4, ["a", "x"])


def test_repeat_applies_a_workflow_over_and_over(session):
    nodes = {
        "a": {"class_type": "Double", "inputs": {"n": 1}},
        "r": {"class_type": "Repeat", "inputs": {"workflow": "step.json", "value": ["a", 0], "times": 3}},
        "x": {"class_type": "Double", "inputs": {"n": ["r", 0]}},
    }
    value, ran = run(session, nodes, "x")
    assert value == 32 and len(ran) == 6
    nodes["r"]["inputs"]["times"] = 4
    value, ran = run(session, nodes, "x")
    assert (value, ran) == (64, ["r", "x"])  # the fourth round is the same work as `x` was before


def test_repeating_no_times_passes_the_value_on(session):
    nodes = {
        "r": {"class_type": "Repeat", "inputs": {"workflow": "step.json", "value": 7, "times": 0}},
        "x": {"class_type": "Double", "inputs": {"n": ["r", 0]}},
    }
    assert run(session, nodes, "x") == (14, ["r", "x"])


def test_what_follows_lines_of_text_runs_once_a_line(session):
    nodes = {
        "t": {"class_type": "TextLines", "inputs": {"text": "a\n\n  b \nc"}},
        "u": {"class_type": "Upper", "inputs": {"text": ["t", 0]}},
        "j": {"class_type": "Join", "inputs": {"parts": ["u", 0]}},
    }
    assert run(session, nodes, "j") == ("A|B|C", ["t", "u", "j"])
