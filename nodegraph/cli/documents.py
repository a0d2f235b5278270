"""`nodegraph check` and `nodegraph inputs`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nodegraph.cli import describe
from nodegraph.cli.arguments import Parser, UsageError, add_places, settings_of
from nodegraph.cli.codes import OK, code_of
from nodegraph.cli.request import declared_inputs, is_link, read_stdin
from nodegraph.cli.terminal import Terminal
from nodegraph.documents import Document, from_text
from nodegraph.errors import Kind, Problem, WorkflowError
from nodegraph.session import Session
from nodegraph.spec import Input
from nodegraph.workflow import Workflow, split_address


def check(words: list[str], terminal: Terminal) -> int:
    """Tells every problem of a workflow -> exit code."""
    parser = Parser("check", "Tells everything that is wrong with a workflow. Runs nothing.", "WORKFLOW [options]")
    name, args, session = _opened(parser, words, terminal)
    if session is None:
        return OK
    with session:
        try:
            workflow = open_workflow(name, session).workflow
            problems = _problems(workflow, session)
            label = workflow.name or name
        except WorkflowError as error:
            problems, label = list(error.problems), name
    code = code_of(WorkflowError(problems)) if problems else OK
    if args.json:
        found = [problem.as_json() for problem in problems]
        terminal.out(
            json.dumps(
                {"workflow": label, "valid": not problems, "exit_code": code, "problems": found}, ensure_ascii=False
            )
        )
    elif problems:
        terminal.out("\n".join(map(str, problems)))
    else:
        terminal.out(f"{label}: no problems")
    return code


def inputs(words: list[str], terminal: Terminal) -> int:
    """Tells the declared inputs of a workflow, or what could be set where it declares none -> exit code."""
    parser = Parser("inputs", "The inputs a workflow declares: type, default, range.", "WORKFLOW [options]")
    parser.general.add_argument("--all", action="store_true", help="also every node input that --set can reach")
    name, args, session = _opened(parser, words, terminal)
    if session is None:
        return OK
    with session:
        workflow = open_workflow(name, session).workflow
        declared = declared_inputs(workflow, session)
        if args.json:
            terminal.out(json.dumps(_schema(workflow, declared), ensure_ascii=False, indent=1))
            return OK
        for key, item in declared.items():
            terminal.out(_line(key, item, is_required=workflow.inputs[key].required))
        if not declared:
            terminal.say("it declares no inputs; these can be given to --set:")
        if args.all or not declared:
            for line in _addresses(workflow, session):
                terminal.out(line)
    return OK


def open_workflow(name: str, session: Session, inputs_from: str | None = None) -> Document:
    """A workflow by path, picture or name; `-` reads stdin.

    Raises:
        UsageError: stdin is asked for twice.
        FileProblem, WorkflowError: as `Session.open`.
    """
    if name != "-":
        return session.open(name)
    if inputs_from == "-":
        raise UsageError("the workflow and --inputs cannot both come from stdin")
    return Document(from_text(read_stdin(), session.registry), "stdin")


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


def _opened(parser: Parser, words: list[str], terminal: Terminal) -> tuple[str, Any, Session | None]:
    """The workflow's name, the options, and a session; no session when only help was asked for."""
    parser.general.add_argument("--json", action="store_true", help="as one JSON object")
    add_places(parser)
    name, rest = parser.split(words)
    args = parser.parse(rest)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return "", args, None
    if name is None:
        raise UsageError(f"which workflow? write {parser.prog} FILE, or a name such as text_to_image")
    return name, args, Session(settings_of(args))


def _problems(workflow: Workflow, session: Session) -> list[Problem]:
    """Every problem of the document. An input the user must give is no problem before a run."""
    places = {place for item in workflow.inputs.values() if item.required for place in item.bind}
    problems: list[Problem] = []
    try:
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


def _schema(workflow: Workflow, declared: Mapping[str, Input | None]) -> dict[str, Any]:
    """The declared inputs as a JSON Schema of an object."""
    found: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}
    if workflow.name:
        found["title"] = workflow.name
    if workflow.doc:
        found["description"] = workflow.doc
    found["properties"] = {
        name: {} if item is None else describe.schema(item, is_required=workflow.inputs[name].required)
        for name, item in declared.items()
    }
    found["required"] = [name for name in declared if workflow.inputs[name].required]
    return {**found, "additionalProperties": False}


def _line(name: str, item: Input | None, *, is_required: bool) -> str:
    if item is None:
        return f"{name}: of a node type that is not installed"
    initial = "required" if is_required else describe.default(item)
    return f"{name}: {describe.expected(item)}; {initial}" + (f". {item.doc}" if item.doc else "")


def _addresses(workflow: Workflow, session: Session) -> list[str]:
    """Every node input that takes a value and is not linked, as `--set` names it."""
    found: list[str] = []
    for node, document in workflow.nodes.items():
        spec = session.spec(document.class_type)
        for item in spec.inputs if spec is not None else ():
            value = document.inputs.get(item.name, item.default)
            if describe.is_value(item) and not is_link(value):
                found.append(_line(f"{node}.{item.name}", replace(item, default=value), is_required=item.is_required))
    return found
