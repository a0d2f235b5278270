"""`nodegraph run` and `nodegraph plan`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

from nodegraph import describe
from nodegraph.checks import with_sources
from nodegraph.cli import outlook
from nodegraph.cli.arguments import Parser, UsageError, add_compute, add_places, count, seconds, settings_of
from nodegraph.cli.codes import FAILED, OK, STATUS
from nodegraph.cli.documents import open_workflow
from nodegraph.cli.interrupts import Interrupts, exit_now
from nodegraph.cli.report import Reporter, RunReport
from nodegraph.cli.request import Request, add_declared, add_values, request
from nodegraph.cli.terminal import Terminal
from nodegraph.documents import Document
from nodegraph.errors import WorkflowError
from nodegraph.graph import Ref
from nodegraph.pictures import png_from, png_of
from nodegraph.session import Prepared, Running, Session
from nodegraph.subgraph import Find
from nodegraph.workflow import Workflow

POLL_SECONDS = 0.1  # how soon a signal or the end of the time is seen
GRACE_SECONDS = 30.0  # for a node to notice that the time is over
PLAIN_PORTS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def run(words: list[str], terminal: Terminal) -> int:
    """Runs a workflow -> exit code."""
    parser = _parser(
        "run", "Runs a workflow. Its own inputs are options too: nodegraph run WORKFLOW --help lists them."
    )
    _add_running(parser)
    with Interrupts() as interrupts:
        return _command(parser, words, terminal, interrupts)


def plan(words: list[str], terminal: Terminal) -> int:
    """Tells what a run with the same options would do -> exit code."""
    parser = _parser("plan", "What is cached and what would run, with the same options as run. Runs nothing.")
    parser.general.add_argument("--json", action="store_true", help="as one JSON object")
    return _command(parser, words, terminal, None)


def _parser(verb: str, description: str) -> Parser:
    parser = Parser(verb, description, "WORKFLOW [options]")
    parser.general.add_argument("--target", action="append", default=[], metavar="NODE",
                                help="run only what this node or declared output needs (repeatable)")  # fmt: skip
    add_values(parser)
    add_compute(parser)
    add_places(parser)
    return parser


def _add_running(parser: Parser) -> None:
    add = parser.general.add_argument
    add("--dry-run", action="store_true", help="tell what is cached and what would run; run nothing")
    add("--explain", action="store_true", help="tell for each node why it ran, or from where it was taken")
    add("--repeat", type=count, default=1, metavar="N", help="run N times, seeds counted up")
    add("--timeout", type=seconds, metavar="S", help="cancel after S seconds")
    form = parser.general.add_mutually_exclusive_group()
    form.add_argument(
        "--stdout", action="store_true", help="write the first picture as PNG to stdout, and paths nowhere"
    )
    form.add_argument("--json", action="store_true", help="write one JSON object to stdout at the end")
    form.add_argument("--json-stream", action="store_true", help="write each event as a line of JSON, then the result")


def _command(parser: Parser, words: list[str], terminal: Terminal, interrupts: Interrupts | None) -> int:
    name, rest = parser.split(words)
    early = parser.parse_some(rest)
    if name is None:
        if early.help:
            terminal.out(parser.format_help().rstrip())
            return OK
        raise UsageError(
            f"which workflow? write {parser.prog} FILE, or a name such as text_to_image; see {parser.prog} --help"
        )
    is_plan = interrupts is None or early.dry_run
    with Session(settings_of(early, runs=not is_plan and not early.help)) as session:
        document = open_workflow(name, session, terminal, early.inputs)
        inputs = describe.declared_inputs(document.workflow, session.spec)
        flags = add_declared(parser, document.workflow, inputs)
        if early.help:
            parser.description = document.workflow.doc or parser.description
            terminal.out(parser.format_help().rstrip())
            return OK
        args = parser.parse(rest)
        wanted = request(document.workflow, args, flags, inputs, session, terminal)
        if (args.seed or args.randomize_seeds) and not wanted.seeds:
            terminal.say("this workflow has no seed; --seed and --randomize-seeds change nothing")
        if interrupts is None or is_plan:
            return _tell_plan(_prepare(session, document, wanted.nth(0)[0], args), session, args, terminal)
        if args.stdout and args.repeat > 1:
            raise UsageError("--stdout holds one picture; use --repeat without it")
        return _Runner(session, document, args, terminal, interrupts).run(wanted)


def _prepare(session: Session, document: Document, workflow: Workflow, args: argparse.Namespace) -> Prepared:
    """Plans; a missing model's problem also says where the document has it from."""
    is_stdout = bool(vars(args).get("stdout")) and not args.target
    try:
        if is_stdout and workflow.outputs:
            prepared = session.prepare(workflow, scope=document.origin, wants_outputs=True)
            if _targets(prepared, ("IMAGE",)):
                return prepared  # the picture goes to stdout alone: no sink runs
        return session.prepare(workflow, args.target or None, scope=document.origin)
    except WorkflowError as error:
        raise WorkflowError(with_sources(error.problems, workflow)) from None


def _tell_plan(prepared: Prepared, session: Session, args: argparse.Namespace, terminal: Terminal) -> int:
    fates, models = outlook.outlook(session, prepared), outlook.models_used(prepared)
    if args.json or vars(args).get("json_stream"):
        terminal.out(json.dumps(outlook.as_json(fates, models, prepared), ensure_ascii=False))
    else:
        terminal.out("\n".join(outlook.lines(fates, models, prepared)))
    return OK


class _Runner:
    """Runs a request, once or several times, and tells the results."""

    def __init__(
        self, session: Session, document: Document, args: argparse.Namespace, terminal: Terminal, interrupts: Interrupts
    ) -> None:
        self._session, self._document, self._args = session, document, args
        self._terminal, self._interrupts = terminal, interrupts
        self._start = time.monotonic()
        self._deadline = None if args.timeout is None else self._start + args.timeout
        self._picture: bytes | None = None

    def run(self, wanted: Request) -> int:
        """Runs as often as asked, up to the first run that fails -> exit code."""
        args = self._args
        reports: list[RunReport] = []
        for number in range(args.repeat):
            reports.append(self._once(number, *wanted.nth(number)))
            if reports[-1].code != OK:
                break
        code = reports[-1].code
        if args.stdout and code == OK:
            if self._picture is None:
                fix = "add a SaveImage node or declare an image output"
                self._terminal.say(f"nodegraph: there is no picture for stdout; {fix}", level=-1)
                return FAILED
            self._terminal.out_bytes(self._picture)
        elif args.json or args.json_stream:
            self._tell_json(reports)
        return code

    def _once(self, number: int, workflow: Workflow, seed: int | None) -> RunReport:
        args, session = self._args, self._session
        prepared = _prepare(session, self._document, workflow, args)
        seeded = "" if seed is None else f" (seed {seed})"
        label = f"run {number + 1} of {args.repeat}{seeded}: " if args.repeat > 1 else ""
        reporter = Reporter(prepared, self._terminal, seed=seed, label=label, is_stream=args.json_stream)
        if args.randomize_seeds and not label:
            self._terminal.say(f"seed {seed}")
        plain = _targets(prepared, PLAIN_PORTS)
        running = session.submit(prepared, wants_values=args.stdout or bool(plain))
        _follow(running, reporter, self._interrupts, self._deadline, self._terminal)
        report = reporter.report
        if report.status == "success":
            report.outputs = {name: _plain(running.value(ref.node, ref.slot)) for name, ref in plain.items()}
            if args.stdout:
                self._picture = _picture(running, prepared, report, session.spec)
        running.release()
        self._tell(reporter)
        return report

    def _tell(self, reporter: Reporter) -> None:
        """What a run gave: paths on stdout, the rest on stderr."""
        args, report, terminal = self._args, reporter.report, self._terminal
        if not (args.json or args.json_stream or args.stdout):
            for file in report.files:
                terminal.out(file["path"])
            if report.status == "success" and not report.files:
                for name, value in report.outputs.items():
                    terminal.out(f"{name}: {value}" if len(report.outputs) > 1 else str(value))
                if not report.outputs:
                    terminal.say("no file was saved; add a SaveImage node, or use --stdout for a declared image output")
        if args.explain:
            for line in reporter.explanation():
                terminal.say(line, level=-1)
        if report.status == "timeout":
            terminal.say(f"nodegraph: timed out after {args.timeout:g} s", level=-1)
        elif report.status == "cancelled":
            terminal.say("nodegraph: cancelled", level=-1)
        elif report.errors and terminal.verbosity < 1:
            terminal.say("-v shows inputs and tracebacks")
        terminal.say(reporter.summary())

    def _tell_json(self, reports: list[RunReport]) -> None:
        last, workflow = reports[-1], self._document.workflow
        result = {
            "status": last.status if last.status in ("timeout", "cancelled") else STATUS[last.code],
            "exit_code": last.code, "workflow": workflow.name or self._document.origin,
            "seconds": time.monotonic() - self._start,
            "files": [file["path"] for report in reports for file in report.files],
            "runs": [report.as_json() for report in reports],
        }  # fmt: skip
        head = {"type": "Result"} if self._args.json_stream else {}
        self._terminal.out(json.dumps({**head, **result}, ensure_ascii=False))


def _follow(
    running: Running, reporter: Reporter, interrupts: Interrupts, deadline: float | None, terminal: Terminal
) -> None:
    """Reports a run up to its end; cancels it on a signal, when the time is over, and when nobody reads stdout."""
    interrupts.is_running = True
    is_cancelled = is_late = False
    while running.finished is None:
        event = running.next_event(POLL_SECONDS)
        if event is not None:
            reporter.take(event)
        now = time.monotonic()
        if is_late and deadline is not None and now > deadline + GRACE_SECONDS:
            terminal.say("nodegraph: a node does not stop; leaving it", level=-1)
            exit_now(reporter.report.code)
        if is_cancelled or running.finished is not None:
            continue
        is_late = deadline is not None and now >= deadline
        if interrupts.is_asked or is_late or terminal.is_left:
            is_cancelled = True
            reporter.report.status = "timeout" if is_late else "cancelled"
            if interrupts.is_asked:
                terminal.say("stopping at the next step; once more to leave at once", level=0)
            running.cancel()
    interrupts.is_running = False
    if is_late and reporter.report.status == "cancelled":
        reporter.report.status = "timeout"


def _targets(prepared: Prepared, ports: Collection[str]) -> dict[str, Ref]:
    """Declared outputs of these types that the run was asked for."""
    steps, targets = prepared.plan.steps, prepared.plan.targets
    return {
        name: ref
        for name, ref in prepared.outputs.items()
        if ref.node in targets and steps[ref.node].spec.outputs[int(ref.slot)].port in ports
    }


def _plain(value: Any) -> Any:
    """A value for JSON; a list of results as a list."""
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _picture(running: Running, prepared: Prepared, report: RunReport, find: Find) -> bytes | None:
    """The first declared image, else the first picture saved, as PNG."""
    for ref in _targets(prepared, ("IMAGE",)).values():
        return png_of(running.value(ref.node, ref.slot), prepared.workflow, find)
    saved = (Path(file["path"]) for file in report.files)
    found = next((path for path in saved if path.suffix.lower() in PICTURES), None)
    return None if found is None else png_from(found)
