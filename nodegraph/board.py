"""Where the tasks of one run stand: which there are, who waits for whom, who holds what, what failed, how it ends.

State, all under the session's lock:

- `Task`: a node of this run. IDLE until something needs it; WAITING for `missing` others; READY in a lane's heap;
  RUNNING; DONE with a pinned `entry` (or, for a control node, an `alias` per output); FAILED.
- `todo`: tasks to look at again, which is `scheduler`'s matter.
- `flights` (of the session): the task that is making a key at this moment; others, of any run, wait for it.
- `uses` of a task: those that still have to read its value. At zero its entry is unpinned and may go.

(Task states after dask's scheduler.)
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from nodegraph.cache import Cache
from nodegraph.devices import Lane
from nodegraph.errors import NodeError
from nodegraph.events import Event, NodeBlocked, NodeFailed, RunFinished
from nodegraph.graph import Ref
from nodegraph.plan import Plan, Planner, Step
from nodegraph.task import DONE, FAILED, IDLE, Task, Wish

log = logging.getLogger(__name__)


class Host(Protocol):
    """What a run needs of its session, to know what is next.

    Attributes:
        lock: guards what runs share, and every run.
        cache: results by key.
        flights: the task that makes a key at this moment.
    """

    lock: threading.RLock
    cache: Cache
    flights: dict[bytes, Task]

    def recipes_of(self, scope: str) -> dict[str, Step]:
        """How each node of a workflow was run last."""
        ...

    def lane(self, name: str) -> Lane:
        """The lane of this name."""
        ...

    def settle(self, future: asyncio.Future[Any], value: Any, is_error: bool) -> None:
        """Gives an awaited value to the event loop."""
        ...

    def finished(self, run: Board) -> None:
        """A run is over."""
        ...


class Board:
    """The tasks of a run. A subclass moves them.

    Attributes:
        id: name of the run.
        ran: ids of the nodes that ran, in order.
        cached: ids of the nodes whose result was at hand.
        errors: by id of the node that failed.
        over: set at the end.
    """

    def __init__(self, host: Host, run_id: str, plan: Plan, planner: Planner, *, scope: str, priority: int,
                 wants_values: bool, emit: Callable[[Event], None]) -> None:  # fmt: skip
        self.id, self.plan, self.scope, self.emit = run_id, plan, scope, emit
        self._host, self._planner, self._priority, self._wants_values = host, planner, priority, wants_values
        self._lock, self._cache, self._flights = host.lock, host.cache, host.flights
        self._steps: dict[str, Step] = dict(plan.steps)
        self._order = {name: index for index, name in enumerate(plan.steps)}
        self._tasks: dict[str, Task] = {}
        self._todo: deque[Task | Wish] = deque()
        self._ready: dict[str, list[Task]] = {}
        self._pumping: set[str] = set()
        self._active: int = 0  # tasks ready, running, or waiting for another run
        self._foreign: int = 0  # of these, waiting for another run
        self._is_busy = False  # inside `_proceed` or `_finish`: a nested `_proceed` leaves the work to it
        self._fresh: list[Task] = []  # just done; held until all who wait have looked
        self._failed: dict[bytes, Task] = {}
        self._async: set[asyncio.Future[Any]] = set()
        self._started = time.perf_counter()
        self.over = threading.Event()
        self._is_cancelled = self._is_over = False
        self._blocked = 0
        self._targets: list[Task] = []
        self._recipes = host.recipes_of(scope)
        self.ran: list[str] = []
        self.cached: list[str] = []
        self.errors: dict[str, NodeError] = {}

    def step(self, name: str) -> Step:
        """The step of a node, with the key it has by now."""
        task = self._tasks.get(name)
        return self._steps[name] if task is None else task.step

    # All of this runs with the lock held

    def _proceed(self) -> None:
        """Moves on every task that can move."""
        raise NotImplementedError

    def _task(self, name: str) -> Task:
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = Task(self, self._steps[name], self._order[name])
        return task

    def _resolve(self, ref: Ref) -> tuple[Task | None, Any]:
        """Follows handles -> (task, slot); (None, literal); or a control task that has not said yet, and None."""
        while True:
            task = self._task(ref.node)
            if task.step.spec.kind != "control":
                return task, ref.slot
            if task.state != DONE:
                return task, None
            alias = task.alias[int(ref.slot)]
            if type(alias) is not Ref:
                return None, alias.value
            onward = self._tasks.get(alias.node)
            if onward is not None and onward.state == DONE and onward.alias:
                place = int(ref.slot)  # halve the path, so that loops stay linear
                task.alias = (*task.alias[:place], onward.alias[int(alias.slot)], *task.alias[place + 1 :])
                continue
            ref = alias

    def _wake(self, waiters: list[Task | Wish] | None) -> None:
        if not waiters:
            return
        woken = tuple(waiters)
        waiters.clear()
        others: set[Board] | None = None
        for item in woken:
            item.missing -= 1
            run = item.run
            if item.missing == 0:
                run._todo.append(item)
            if run is not self and not run._is_cancelled:
                run._active -= 1
                run._foreign -= 1
                others = {run} if others is None else others | {run}
        for run in others or ():
            run._proceed()

    def _unuse(self, task: Task) -> None:
        """One reader fewer; after the last the entry may go."""
        task.uses -= 1
        if task.uses == 0 and task.is_held and task.entry is not None:
            task.is_held = False
            self._cache.unpin(task.entry)

    def _land(self, task: Task) -> None:
        """Ends a task's flight and its hold on its sources."""
        key = task.step.key
        if key is not None and self._flights.get(key) is task:
            del self._flights[key]
        for _, source, _ in task.sources or ():
            if source is not None:
                self._unuse(source)
        task.sources = None

    def _fail(self, task: Task, error: NodeError) -> None:
        self.errors[task.step.id] = error
        self.emit(NodeFailed(self.id, task.step.id, error.class_type, error.message, error.inputs, error.traceback,
                             error.is_out_of_memory))  # fmt: skip
        task.state, task.cause = FAILED, task
        if task.step.key is not None:
            self._failed[task.step.key] = task
        self._spread(task)

    def _block(self, task: Task, source: Task) -> None:
        """Fails a task as something it needs failed."""
        task.state, task.cause = FAILED, source.cause
        self._blocked += 1
        because = source.cause.step.id if source.cause else source.step.id
        self.emit(NodeBlocked(self.id, task.step.id, task.step.spec.name, because))
        self._spread(task)

    def _spread(self, task: Task) -> None:
        """Looks again at all that wait for a failed task; they see that it failed, or try on their own."""
        self._land(task)
        self._wake(task.waiters)
        self._wake(task.key_waiters)

    def _lost(self, task: Task) -> None:
        """A hit whose value cannot be read after all: it has to be made."""
        if task.entry is not None:
            self._cache.unpin(task.entry)
        task.is_held, task.entry, task.state = False, None, IDLE
        if task.step.id in self.cached:
            self.cached.remove(task.step.id)

    def _halt(self) -> None:
        """Drops what has not begun and interrupts what has; the run ends when the last call is back."""
        if self._is_cancelled or self._is_over:
            return
        self._is_cancelled = True
        self._active -= self._foreign + sum(map(len, self._ready.values()))
        for heap in self._ready.values():
            heap.clear()
        for work in self._async:
            work.get_loop().call_soon_threadsafe(work.cancel)

    def _abort(self, node: str, error: Exception) -> None:
        """Ends the run at once: a fault of the engine itself must not leave a run without an end."""
        log.error("run %s: the engine failed at node %s", self.id, node, exc_info=error)
        self._is_busy = False
        self._halt()
        self.errors[node] = NodeError(
            node, self._steps[node].spec.name, f"the engine failed: {error!r}; please report it"
        )
        if not self._is_over:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        for task in self._tasks.values():
            if task.step.key is not None and self._flights.get(task.step.key) is task:
                self._land(task)
                self._wake(task.waiters)
            if task.is_target:
                task.uses = 1  # the caller's, up to `release`; readers that never ran are no more
            elif task.is_held and task.entry is not None:
                task.is_held = False
                self._cache.unpin(task.entry)
        status = "cancelled" if self._is_cancelled else "error" if self.errors else "success"
        touched = len(self.ran) + len(self.cached) + len(self.errors) + self._blocked
        self._host.finished(self)
        self.emit(RunFinished(
            self.id, status, time.perf_counter() - self._started, len(self.ran), len(self.cached),
            max(0, len(self._steps) - touched), len(self.errors), self._blocked,
        ))  # fmt: skip
        self.over.set()

    def _error_of(self, task: Task) -> NodeError:
        cause = task.cause or task
        error = self.errors.get(cause.step.id)
        return error or NodeError(task.step.id, task.step.spec.name, "did not run: the run was cancelled")
