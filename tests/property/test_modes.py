"""Reroutes and skipped nodes on the wires of random graphs: no key changes, and nothing runs again."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.workflow import Workflow
from tests.nodegraph.trivial import run
from tests.property.graphs import Document, Maker, is_whole, plain
from tests.property.incremental import Life


def wired(document: Document, chance: random.Random) -> Document:
    """The document with reroutes and skipped nodes on some of its wires, and muted ones beside them."""
    found: Document = json.loads(json.dumps(document))
    for name, node in document.items():
        for key, value in node["inputs"].items():
            if type(value) is not list:
                continue
            kinds = ["Reroute", "Echo", *(["Mul", "AsyncAdd"] if is_whole(document, value[0]) else [])]
            for _ in range(chance.choice([0, 1, 1, 2])):
                number = f"w{len(found)}"
                found[number] = _passing(chance.choice(kinds), found[name]["inputs"][key])
                found[name]["inputs"][key] = [number, 0]
    for number, name in enumerate(document):
        if chance.random() < 0.3:
            found[f"m{number}"] = {**json.loads(json.dumps(found[name])), "mode": "mute"}
    return dict(chance.sample(list(found.items()), len(found)))


def _passing(kind: str, source: Any) -> dict[str, Any]:
    match kind:
        case "Reroute":
            return {"class_type": kind, "inputs": {"value": source}}
        case "Echo":
            return {"class_type": kind, "inputs": {"value": source}, "mode": "skip"}
        case _:
            return {"class_type": kind, "inputs": {"b": 3, "a": source}, "mode": "skip"}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_wires_may_go_through_anything_that_passes_on(seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder), seed)
        try:
            document = _without_always(Maker(chance).document(chance.randrange(4, 16)))
            plainly = life.session.prepare(Workflow.of(document))
            before = run(life.session, document)
            after = run(life.session, wired(document, chance))
            assert {name: step.key for name, step in after.plan.steps.items()} == {
                name: step.key for name, step in plainly.plan.steps.items()
            }
            assert {name: plain(value) for name, value in after.values.items()} == {
                name: plain(value) for name, value in before.values.items()
            }
            assert set(after.ran) <= {name for name, step in plainly.plan.steps.items() if step.spec.kind == "control"}
        finally:
            life.session.close()


def _without_always(document: Document) -> Document:
    for node in document.values():
        node["class_type"] = {"Always": "Add"}.get(node["class_type"], node["class_type"])
    return document
