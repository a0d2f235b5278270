"""Values as nodes, and values as text."""

from __future__ import annotations

import sys

import pytest

from nodegraph.errors import WorkflowError
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from nodes.primitive import preview_any


@pytest.fixture
def session(tmp_path):
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        yield session


def value(session, class_type, given):
    node = {"class_type": class_type, "inputs": {"value": given}}
    running = session.submit(session.prepare(Workflow.of({"1": node}), ["1"]), wants_values=True)
    assert running.wait().status == "success", running.errors
    return running.value("1")


@pytest.mark.parametrize(
    ("class_type", "given"),
    [
        ("PrimitiveString", "a"),
        ("PrimitiveStringMultiline", "a\nb"),
        ("PrimitiveInt", -sys.maxsize),
        ("PrimitiveFloat", 0.1),
        ("PrimitiveBoolean", True),
    ],
)
def test_a_value_is_what_was_written(session, class_type, given):
    found = value(session, class_type, given)
    assert found == given and type(found) is type(given)


def test_a_number_beyond_64_bits_is_refused(session):
    with pytest.raises(WorkflowError, match="value"):
        value(session, "PrimitiveInt", 2**63)


def test_a_preview_is_run_for_its_own_sake_and_gives_the_text_on(session):
    nodes = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 7}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    running = session.submit(session.prepare(Workflow.of(nodes)), wants_values=True)
    assert running.wait().status == "success", running.errors
    assert (running.value("2"), running.ran) == ("7", ["1", "2"])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a", "a"),
        (1.5, "1.5"),
        (True, "True"),
        (None, "None"),
        ([1, "b"], '[\n    1,\n    "b"\n]'),
        ({1, 2}, "{1, 2}"),
    ],
)
def test_a_preview_of_a_value(source, text):
    assert preview_any(source=source) == text
