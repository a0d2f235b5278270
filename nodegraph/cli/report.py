"""Tells a run while it goes on and when it is over: progress on stderr, paths or JSON on stdout."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from nodegraph.cli.codes import CANCELLED, FAILED, OK, OUT_OF_MEMORY
from nodegraph.cli.outlook import title
from nodegraph.cli.terminal import Terminal
from nodegraph.events import (
    Event,
    NodeBlocked,
    NodeCached,
    NodeFailed,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    Noted,
    RunFinished,
    Saved,
    Shown,
    as_json,
)
from nodegraph.session import Prepared

LINE_SECONDS = 10.0  # between lines of progress where there is no terminal for a bar
SLOWEST = 3


@dataclass
class NodeReport:
    """What became of a node: `ran`, `cached`, `failed`, `blocked`, `cancelled` or `unneeded`."""

    node: str
    class_type: str
    title: str
    state: str = "unneeded"
    why: str | None = None
    tier: str | None = None
    seconds: float | None = None
    nbytes: int | None = None
    notes: list[str] = field(default_factory=list[str])


@dataclass
class RunReport:
    """A run as JSON has it; see docs/cli.md."""

    run: str
    status: str = "success"
    seed: int | None = None
    seconds: float = 0.0
    ran: list[str] = field(default_factory=list[str])
    cached: list[str] = field(default_factory=list[str])
    unneeded: list[str] = field(default_factory=list[str])
    nodes: list[NodeReport] = field(default_factory=list[NodeReport])
    files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def code(self) -> int:
        """The exit code."""
        if self.status in ("cancelled", "timeout"):
            return CANCELLED
        if any(error["is_out_of_memory"] for error in self.errors):
            return OUT_OF_MEMORY
        return OK if self.status == "success" else FAILED

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Reporter:
    """Follows the events of one run.

    Args:
        prepared: what is run.
        terminal: where to tell it.
        seed: the run's seed, for its report.
        label: opens lines about this run, where there are several.
        is_stream: write each event to stdout.
    """

    def __init__(
        self, prepared: Prepared, terminal: Terminal, *, seed: int | None, label: str, is_stream: bool
    ) -> None:
        self._terminal, self._label, self._is_stream = terminal, label, is_stream
        self.report = RunReport("", seed=seed)
        self._nodes = {
            step.id: NodeReport(step.id, step.spec.name, title(prepared.workflow, step))
            for step in prepared.plan.steps.values()
        }
        self._bar: Any = None
        self._bar_node = ""
        self._last_line = time.monotonic()

    def take(self, event: Event) -> None:
        """Notes an event and tells it."""
        report = self.report
        report.run = event.run
        if self._is_stream:
            self._terminal.out(json.dumps(as_json(event), ensure_ascii=False))
        if isinstance(event, NodeProgress):
            self._progress(event)
        elif isinstance(event, NodeStarted):
            node = self._node(event.node, event.class_type)
            node.state, node.why = "cancelled", event.why  # unless it ends
            self._terminal.say(f"{self._label}{node.title}: {event.why}", level=1)
        elif isinstance(event, NodeFinished):
            node = self._node(event.node, event.class_type)
            node.state, node.seconds, node.nbytes = "ran", event.seconds, event.nbytes
            report.ran.append(event.node)
            self._close_bar()
        elif isinstance(event, NodeCached):
            node = self._node(event.node, event.class_type)
            node.state, node.tier = "cached", event.tier
            report.cached.append(event.node)
        elif isinstance(event, Saved):
            report.files.append({"node": event.node, "is_cached": event.is_cached, **event.file._asdict()})
        elif isinstance(event, Shown):
            self._terminal.say(f"{self._label}{self._node(event.node, '').title}: {event.text}")
        elif isinstance(event, Noted):
            node = self._node(event.node, "")
            if event.text not in node.notes:
                node.notes.append(event.text)
                self._terminal.say(f"{self._label}note: {node.title} ({event.node}): {event.text}")
        elif isinstance(event, NodeFailed):
            self._failed(event)
        elif isinstance(event, NodeBlocked):
            self._node(event.node, event.class_type).state = "blocked"
        elif isinstance(event, RunFinished):
            self._finished(event)

    def summary(self) -> str:
        """One line on what ran and what did not."""
        report = self.report
        if report.status == "success" and not report.ran:
            place = f"; already there: {report.files[0]['path']}" if report.files else ""
            return (
                f"{self._label}nothing had to run: {len(report.cached)} cached, {len(report.unneeded)} unneeded{place}"
            )
        states = [node.state for node in self._nodes.values()]
        counts = [("failed", "failed"), ("blocked", "could not run"), ("cancelled", "cancelled")]
        more = "".join(f", {states.count(state)} {word}" for state, word in counts if state in states)
        timed = sorted((node for node in self._nodes.values() if node.seconds), key=lambda node: -(node.seconds or 0))
        slowest = ", ".join(
            f"{node.title} {node.seconds:.1f} s" for node in timed[:SLOWEST] if (node.seconds or 0) >= 0.05
        )
        return (
            f"{self._label}ran {len(report.ran)}, cached {len(report.cached)}, unneeded {len(report.unneeded)}{more}"
            f" in {report.seconds:.1f} s" + (f"; slowest: {slowest}" if slowest else "")
        )

    def explanation(self) -> list[str]:
        """A line for every node: a hit and its tier, or why it ran and for how long."""
        names = {node.node: f"{node.node} ({node.title})" for node in self._nodes.values()}
        width = max(map(len, names.values()), default=0)
        lines: list[str] = []
        for node in self._nodes.values():
            word = f"{node.state} {node.seconds:.2f} s" if node.seconds is not None else node.state
            detail = f": {node.why}" if node.why else f": {node.tier}" if node.tier else ""
            lines.append(f"{self._label}{names[node.node]:{width}}  {word}{detail}")
        return lines

    def _node(self, node: str, class_type: str) -> NodeReport:
        """The report of a node, which the run itself may have added."""
        return self._nodes.setdefault(node, NodeReport(node, class_type, class_type))

    def _failed(self, event: NodeFailed) -> None:
        self._close_bar()
        self._node(event.node, event.class_type).state = "failed"
        self.report.errors.append({name: value for name, value in event._asdict().items() if name != "run"})
        say = self._terminal.say
        say(f"nodegraph: {self._label}node {event.node} ({event.class_type}): {event.message}", level=-1)
        for name, value in event.inputs.items():
            say(f"    {name} = {value}", level=1)
        if event.traceback:
            say(event.traceback.rstrip(), level=1)

    def _finished(self, event: RunFinished) -> None:
        self._close_bar()
        report = self.report
        report.status, report.seconds = event.status, event.seconds
        report.nodes = list(self._nodes.values())
        report.unneeded = [node.node for node in report.nodes if node.state == "unneeded"]

    def _progress(self, event: NodeProgress) -> None:
        node = self._node(event.node, "")
        if self._terminal.verbosity < 0:
            return
        if self._terminal.is_interactive:
            if self._bar is None or self._bar_node != event.node:
                self._close_bar()
                self._bar, self._bar_node = _bar(self._label + node.title, event), event.node
            self._bar.update(event.step - self._bar.n)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            line = f"{self._label}{node.title}: step {event.step} of {event.total}"
            if event.per_second is not None and event.seconds_left is not None:
                line += f", {event.per_second:.2f} it/s, {event.seconds_left:.0f} s left"
            self._terminal.say(line)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _bar(label: str, event: NodeProgress) -> Any:
    import tqdm

    tqdm.tqdm.monitor_interval = 0  # no thread of its own
    columns = shutil.get_terminal_size().columns  # 80 where the terminal has no size, as inside some containers
    return tqdm.tqdm(total=event.total, initial=event.step, desc=label, unit="it", leave=False, ncols=columns)
