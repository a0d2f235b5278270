"""What a run would do: which nodes are at hand, which would run and why. Runs nothing and imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from nodegraph.files import MODEL_KINDS
from nodegraph.graph import Ref
from nodegraph.plan import Step
from nodegraph.session import Prepared, Session
from nodegraph.types import FileRef
from nodegraph.workflow import Workflow

MAYBE, IDENTITY, VALUE = range(3)  # what is needed of a node: perhaps nothing, its key, its value
State = Literal["cached", "will_run", "same_as", "decided_at_run_time", "unneeded"]
WORDS: Mapping[str, str] = {
    "cached": "cached", "will_run": "will run", "same_as": "same as", "decided_at_run_time": "decided at run time",
    "unneeded": "unneeded",
}  # fmt: skip


class Fate(NamedTuple):
    """What is to become of a node.

    Attributes:
        step: the node.
        state: `cached`, `will_run`, `same_as` another node of the run, `decided_at_run_time` behind a switch,
            `unneeded` since what follows it is cached.
        detail: the tier, the reason, or the other node.
    """

    step: Step
    state: State
    detail: str = ""


class ModelUse(NamedTuple):
    """A file that nodes name."""

    kind: str
    name: str
    path: str
    nbytes: int
    digest: str
    nodes: tuple[str, ...]


def outlook(session: Session, prepared: Prepared) -> list[Fate]:
    """The fate of every node of a plan, in its order."""
    steps = prepared.plan.steps
    fates: dict[str, Fate] = {}
    needs: dict[str, int] = {}
    makers: dict[bytes, str] = {}
    recipes = session.recipes_of(prepared.scope)
    stack = [(name, VALUE) for name in reversed(prepared.plan.targets)]
    while stack:
        name, need = stack.pop()
        if needs.get(name, -1) >= need:
            continue
        needs[name] = need
        step = steps[name]
        tier = _tier(session, step)
        if tier is not None:
            fates[name] = Fate(step, "cached", tier)
            continue
        is_control = step.spec.kind == "control"
        runs = need > MAYBE if is_control else need == VALUE and step.key is not None
        if runs and step.key is not None and makers.setdefault(step.key, name) != name:
            fates[name] = Fate(step, "same_as", makers[step.key])
            continue
        reason = session.why(prepared.scope, recipes, step) if runs else ""
        fates[name] = Fate(step, "will_run", reason) if runs else Fate(step, "decided_at_run_time")
        for field, value in reversed(list(step.arguments.items())):
            if isinstance(value, Ref):
                is_lazy = step.spec.by_name[field].is_lazy
                is_open = need > MAYBE and step.key is None and not is_control  # its key waits for what is upstream
                stack.append((value.node, VALUE if runs and not is_lazy else IDENTITY if is_open else MAYBE))
    return [fates.get(name) or Fate(step, "unneeded") for name, step in steps.items()]


def models_used(prepared: Prepared) -> list[ModelUse]:
    """The models of a plan, each once, in its order."""
    found: dict[tuple[str, str], ModelUse] = {}
    for step in prepared.plan.steps.values():
        for name, value in step.arguments.items():
            file = step.spec.by_name[name].file
            if isinstance(value, FileRef) and file is not None and file.kind in MODEL_KINDS:
                known = found.get((file.kind, value.name))
                nodes = (*(known.nodes if known else ()), step.id)
                size = os.stat(value.path).st_size
                found[file.kind, value.name] = ModelUse(file.kind, value.name, value.path, size, value.digest, nodes)
    return list(found.values())


def as_json(fates: list[Fate], models: list[ModelUse], prepared: Prepared) -> dict[str, Any]:
    """An outlook as one JSON object."""
    return {
        "targets": list(prepared.plan.targets),
        "nodes": [
            {"node": fate.step.id, "class_type": fate.step.spec.name, "title": title(prepared.workflow, fate.step),
             "state": fate.state, "detail": fate.detail}
            for fate in fates
        ],
        "models": [model._asdict() for model in models],
    }  # fmt: skip


def lines(fates: list[Fate], models: list[ModelUse], prepared: Prepared) -> list[str]:
    """An outlook for people."""
    names = [f"{fate.step.id} ({title(prepared.workflow, fate.step)})" for fate in fates]
    width = max(map(len, names), default=0)
    found = [f"{name:{width}}  {_state(fate)}" for name, fate in zip(names, fates, strict=True)]
    if models:
        found.append("models:")
        found += [f"  {model.kind}/{model.name}  {size_in_words(model.nbytes)}  {model.path}" for model in models]
    numbers = {state: sum(fate.state == state for fate in fates) for state in WORDS}
    said = [f"{number} {WORDS[state]}" for state, number in numbers.items() if number]
    return [*found, f"{len(fates)} nodes: " + ", ".join(said)]


def title(workflow: Workflow, step: Step) -> str:
    """What people call a node: its own title, else that of its type."""
    document = workflow.nodes.get(step.id)
    own = (document.meta or {}).get("title") if document is not None else None
    return str(own or step.spec.title)


def size_in_words(nbytes: int) -> str:
    """`2.13 GB`."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{nbytes} B"


def _tier(session: Session, step: Step) -> str | None:
    """Where the result of a step is, or None."""
    if step.key is None or step.spec.kind == "control":
        return None
    with session.lock:
        entry = session.cache.find(step.key)
        if entry is None:
            return None
        tier = entry.tier
        session.cache.unpin(entry)
    return tier


def _state(fate: Fate) -> str:
    word = WORDS[fate.state]
    if fate.state == "same_as":
        return f"{word} {fate.detail}"
    return f"{word}: {fate.detail}" if fate.detail else word
