"""Nodes small enough to see through, and a run that ends or says that it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from nodegraph.context import Context
from nodegraph.errors import NodeError
from nodegraph.events import Event, NodeStarted, RunFinished
from nodegraph.plan import Plan
from nodegraph.registry import Registry
from nodegraph.session import Running, Session, Settings
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import Each, Lazy
from nodegraph.workflow import Workflow

PATIENCE = 20.0  # seconds after which a wait counts as a hang

Small = Annotated[int, Field(ge=-1000, le=1000)]
Mode = Literal["left", "right", "middle"]


class Gate:
    """Where a node waits for its test."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.calls = 0

    def wait_for_entry(self) -> None:
        assert self.entered.wait(PATIENCE), "no node came to the gate"


GATES: defaultdict[str, Gate] = defaultdict(Gate)
MEETINGS: dict[str, tuple[list[str], asyncio.Event]] = {}


class Division(NamedTuple):
    quotient: int
    remainder: int


@node("Const", category="t")
def const(*, value: int = 0) -> int:
    return value


@node("Text", category="t")
def text(*, text: str = "") -> str:
    return text


@node("Real", category="t")
def real(*, value: float = 0.0) -> float:
    return value


@node("Echo", category="t")
def echo(*, value: Any) -> Any:
    """Give back what comes in, literal or link."""
    return value


@node("Add", category="t")
def add(*, a: int, b: int = 1) -> int:
    return a + b


@node("Mul", category="t")
def mul(*, a: int, b: int = 1) -> int:
    """Not symmetric, so that swapped inputs show."""
    return 3 * a + 5 * b


@node("DivMod", category="t")
def div_mod(*, a: int, b: int = 3) -> Division:
    return Division(*divmod(a, b)) if b else Division(0, a)


@node("Pick", category="t")
def pick(*, a: int, b: int, mode: Mode = "left", limit: Small = 0) -> int:
    return {"left": a, "right": b, "middle": (a + b) // 2}[mode] + limit


@node("Join", category="t")
def join(*, a: str, b: str) -> str:
    return a + b


@node("Range", category="t")
def items(*, n: int) -> Each[int]:
    return Each(range(n))


@node("Sum", category="t")
def total(*, items: list[int]) -> int:
    return sum((index + 1) * item for index, item in enumerate(items))


@node("Fail", category="t")
def fail(*, a: int = 0, message: str = "it broke") -> int:
    raise ValueError(message)


@node("Gated", category="t")
def gated(*, name: str, a: int = 0) -> int:
    """Wait at a gate, deaf to cancelling."""
    gate = GATES[name]
    gate.calls += 1
    gate.entered.set()
    assert gate.opened.wait(PATIENCE), "the gate stayed shut"
    return a


@node("Patient", category="t")
def patient(*, ctx: Context, name: str, a: int = 0) -> int:
    """Wait at a gate, and look up for cancelling."""
    gate = GATES[name]
    gate.calls += 1
    gate.entered.set()
    while not gate.opened.wait(0.005):
        ctx.check()
    ctx.step(1, 1)
    return a


@node("GatedIo", category="t", lane="io")
def gated_io(*, name: str, a: int = 0) -> int:
    return gated(name=name, a=a)


@node("Always", category="t", cache=False)
def always(*, a: int = 0) -> int:
    return a


@node("Show", category="t", kind="sink")
def show(*, value: Any) -> Any:
    """A sink that gives its value on, so that tests see it."""
    return value


@node("SaveText", category="t", kind="sink")
def save_text(*, ctx: Context, value: Any, prefix: str = "note") -> None:
    ctx.save(prefix, "txt", lambda file: file.write(repr(value).encode()) and None)


@node("AsyncAdd", category="t")
async def async_add(*, a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


@node("Meet", category="t")
async def meet(*, name: str, who: str, parties: int = 2, a: int = 0) -> int:
    """Go on when all are there."""
    present, everyone = MEETINGS.setdefault(name, ([], asyncio.Event()))
    present.append(who)
    if len(present) == parties:
        everyone.set()
    await asyncio.wait_for(everyone.wait(), PATIENCE)
    return a


@node("Forever", category="t")
async def forever(*, name: str) -> int:
    GATES[name].entered.set()
    await asyncio.Event().wait()
    return 0


@node("Switch", category="t")
async def switch(*, condition: bool, on_true: Lazy[Any], on_false: Lazy[Any]) -> Any:
    return on_true if condition else on_false


@node("IfPositive", category="t")
async def if_positive(*, a: Lazy[int], b: Lazy[int]) -> Any:
    """Await the one; forward it or the other."""
    return a if await a > 0 else b


@node("Orelse", category="t")
async def orelse(*, a: Lazy[Any], b: Lazy[Any]) -> Any:
    """The second where the first fails."""
    try:
        await a
    except NodeError:
        return b
    return a


@node("Both", category="t")
async def both(*, a: Lazy[int], b: Lazy[int]) -> int:
    """Two handles at once, and a literal made of them."""
    first, second = await asyncio.gather(a, b)
    return 10 * first + second


@node("Loop", category="t")
async def loop(*, ctx: Context, times: int, value: Lazy[int], step: int = 1) -> int:
    """A loop that expands itself: value + step, `times` over."""
    if times <= 0:
        return value  # type: ignore[return-value]
    (added,) = ctx.expand("Add", name="add", a=value, b=step)
    return ctx.expand("Loop", name="next", times=times - 1, value=added, step=step)[0]  # type: ignore[return-value]


@node("Unrolled", category="t")
async def unrolled(*, ctx: Context, times: int, value: Lazy[int], step: int = 1) -> int:
    for _ in range(times):
        (value,) = ctx.expand("Add", a=value, b=step)
    return value  # type: ignore[return-value]


@node("Expand", category="t")
async def expand(*, ctx: Context, kind: str, value: Lazy[Any]) -> Any:
    """One node of any type around a value."""
    return ctx.expand(kind, a=value)[0]


SPECS = [getattr(found, NODE_ATTRIBUTE) for found in list(globals().values()) if hasattr(found, NODE_ATTRIBUTE)]
REGISTRY = Registry().with_specs(SPECS)


class Outcome(NamedTuple):
    """What a run gave: the targets' values, what ran, what was at hand, and all events."""

    values: dict[str, Any]
    ran: list[str]
    cached: list[str]
    events: list[Event]
    finished: RunFinished
    errors: Mapping[str, Any]
    plan: Plan

    @property
    def status(self) -> str:
        return self.finished.status

    @property
    def why(self) -> dict[str, str]:
        return {event.node: event.why for event in self.events if isinstance(event, NodeStarted)}

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def session(home: Path, registry: Registry = REGISTRY, **settings: Any) -> Session:
    """A session on the CPU without a disk tier."""
    return Session(Settings(**{"home": home, "device": "cpu", "cache_dir": None, **settings}), registry=registry)


def start(
    session: Session, document: Any, targets: Iterable[str] | None = None, *, scope: str = "", priority: int = 0
) -> Running:
    workflow = document if isinstance(document, Workflow) else Workflow.of(document)
    return session.submit(session.prepare(workflow, targets, scope=scope), wants_values=True, priority=priority)


def run(session: Session, document: Any, targets: Iterable[str] | None = None, *, scope: str = "") -> Outcome:
    """Runs a document to its end."""
    return finish(start(session, document, targets, scope=scope))


def finish(running: Running) -> Outcome:
    """Waits for the end; a run without one fails the test."""
    events: list[Event] = []
    while running.finished is None:
        event = running.next_event(PATIENCE)
        assert event is not None, f"the run hangs after {events[-3:]}"
        events.append(event)
    values: dict[str, Any] = {}
    for name in running.plan.targets:
        slots = len(running.plan.steps[name].spec.outputs)
        with contextlib.suppress(NodeError):
            found = tuple(running.value(name, slot) for slot in range(slots))
            values[name] = found[0] if slots == 1 else found
    running.release()
    return Outcome(values, running.ran, running.cached, events, running.finished, running.errors, running.plan)


def n(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node as a document has it; tuples are links."""
    return {"class_type": class_type, "inputs": {k: list(v) if isinstance(v, tuple) else v for k, v in inputs.items()}}
