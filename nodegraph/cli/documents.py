"""`nodegraph check` and `nodegraph inputs`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from nodegraph import describe
from nodegraph.checks import problems_of
from nodegraph.cli.arguments import Parser, UsageError, add_places, settings_of
from nodegraph.cli.codes import OK, code_of
from nodegraph.cli.request import is_link, read_stdin
from nodegraph.cli.terminal import Terminal
from nodegraph.documents import Document, read_text
from nodegraph.errors import WorkflowError
from nodegraph.session import Session
from nodegraph.spec import Input
from nodegraph.workflow import Workflow


def check(words: list[str], terminal: Terminal) -> int:
    """Tells every problem of a workflow -> exit code."""
    parser = Parser("check", "Tells everything that is wrong with a workflow. Runs nothing.", "WORKFLOW [options]")
    name, args, session = _opened(parser, words, terminal)
    if session is None:
        return OK
    with session:
        try:
            workflow = open_workflow(name, session, terminal).workflow
            problems = problems_of(workflow, session)
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
        workflow = open_workflow(name, session, terminal).workflow
        declared = describe.declared_inputs(workflow, session.spec)
        if args.json:
            terminal.out(json.dumps(describe.of_inputs(workflow, declared), ensure_ascii=False, indent=1))
            return OK
        for key, item in declared.items():
            terminal.out(_line(key, item, is_required=workflow.inputs[key].required))
        if not declared:
            terminal.say("it declares no inputs; these can be given to --set:")
        if args.all or not declared:
            for line in _addresses(workflow, session):
                terminal.out(line)
    return OK


def open_workflow(name: str, session: Session, terminal: Terminal, inputs_from: str | None = None) -> Document:
    """A workflow by path, picture or name; `-` reads stdin. What of it could not be carried over is told.

    Raises:
        UsageError: stdin is asked for twice.
        FileProblem, WorkflowError: as `Session.open`.
    """
    if name == "-" and inputs_from == "-":
        raise UsageError("the workflow and --inputs cannot both come from stdin")
    if name == "-":
        document = read_text(read_stdin(), "stdin", session.registry, session.folders.names)
    else:
        document = session.open(name)
    for note in document.notes:
        terminal.say(f"note: {note}")
    return document


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
