"""A node of a run, and a wait for a value: what the scheduler moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nodegraph.cache import Entry
from nodegraph.events import SavedFile
from nodegraph.graph import Ref
from nodegraph.plan import Step

if TYPE_CHECKING:
    from nodegraph.board import Board
    from nodegraph.context import Context

IDLE, WAITING, READY, RUNNING, DONE, FAILED = range(6)
Source = tuple[str, "Task | None", Any]  # input name, the task that makes it and the slot; or None and a literal


class Task:
    """A node of a run."""

    __slots__ = ("alias", "cause", "context", "entry", "is_held", "is_target", "is_wanted", "key_waiters", "missing",
                 "notes", "order", "run", "saved", "sources", "state", "step", "uses", "waiters")  # fmt: skip

    def __init__(self, run: Board, step: Step, order: int) -> None:
        self.run, self.step, self.order = run, step, order
        self.state = IDLE
        self.is_wanted = False  # its value is, not only its identity
        self.is_target = False
        self.is_held = False  # its entry is pinned by this run
        self.uses = 0  # tasks that still have to read it
        self.missing = 0
        self.waiters: list[Task | Wish] = []
        self.key_waiters: list[Task | Wish] | None = None
        self.sources: list[Source] | None = None
        self.entry: Entry | None = None
        self.alias: tuple[Any, ...] = ()
        self.saved: list[SavedFile] | None = None
        self.notes: tuple[str, ...] = ()
        self.context: Context | None = None  # while it runs
        self.cause: Task | None = None  # the failed task behind a blocked one

    def __lt__(self, other: Task) -> bool:
        return self.order < other.order


class Wish:
    """A control node's wait for the value of a handle."""

    __slots__ = ("future", "missing", "ref", "run", "task")

    def __init__(self, run: Board, ref: Ref, future: asyncio.Future[Any]) -> None:
        self.run, self.ref, self.future = run, ref, future
        self.missing = 0
        self.task: Task | None = None
