"""Every problem of a document, told before anything of it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nodegraph.errors import Kind, Problem, WorkflowError
from nodegraph.graph import Graph
from nodegraph.session import Session
from nodegraph.workflow import Workflow, split_address


def problems_of(workflow: Workflow, session: Session) -> list[Problem]:
    """Every problem of the document. An input the user must give is no problem before a run."""
    places = {place for item in workflow.inputs.values() if item.required for place in item.bind}
    problems: list[Problem] = []
    try:
        if places:  # what hangs on them behind a reroute or a skipped node
            gaps = session.inline(Graph.of(workflow)).graph.gaps
            places |= {f"{node}.{name}" for (node, name), gap in gaps.items() if f"{gap.node}.{gap.input}" in places}
        session.check(workflow)
    except WorkflowError as error:
        problems += [
            problem
            for problem in with_sources(error.problems, workflow)
            if not (problem.type == "required_input_missing" and f"{problem.node}.{problem.input}" in places)
        ]
    for name, item in workflow.inputs.items():
        for place in item.bind:
            node, field = split_address(place)
            spec = session.spec(workflow.nodes[node].class_type)
            if spec is not None and field not in spec.by_name:
                expected = ", ".join(spec.by_name) or "nothing: it has no inputs"
                problems.append(
                    Problem(f"inputs.{name} binds {place!r}, which {spec.name} does not have", expected=expected)
                )
    return problems


def with_sources(problems: Iterable[Problem], workflow: Workflow) -> list[Problem]:
    """The problems, with where to get a missing model as far as the document says so."""
    listed: Any = workflow.requires.get("models")
    sources: dict[str, str] = {}
    for model in listed if isinstance(listed, list) else []:  # type: ignore[reportUnknownVariableType]
        if isinstance(model, Mapping) and isinstance(model.get("sources"), list) and model["sources"]:  # type: ignore[reportUnknownMemberType]
            sources[str(model.get("name"))] = str(model["sources"][0])  # type: ignore[reportUnknownArgumentType]
    found: list[Problem] = []
    for problem in problems:
        source = next((sources[name] for name in sources if repr(name) in problem.what), None)
        is_missing = problem.kind is Kind.MISSING_MODEL and source is not None
        fix = "; ".join(filter(None, [problem.fix, f"get it from {source}"]))
        found.append(replace(problem, fix=fix) if is_missing else problem)
    return found
