"""The tasks of one run and how they move: what is at hand is taken, what is not is made once, in the order of the plan.

State, all under the session's lock:

- `Task`: a node of this run. IDLE until something needs it; WAITING for `missing` others; READY in a lane's heap;
  RUNNING; DONE with a pinned `entry` (or, for a control node, an `alias` per output); FAILED.
- A task is needed for its *identity* (its key) or its *value*. Most keys are known from planning. Behind a control
  node they wait until it has run and said which handle it forwards; then a hit still needs nothing upstream.
- `todo`: tasks to look at again. `_advance` moves one on and never recurses, so depth costs no stack.
- `flights` (of the session): the task that is making a key at this moment; others, of any run, wait for it.
- `uses` of a task: those that still have to read its value. At zero its entry is unpinned and may go.

(Task states after dask's scheduler.)
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nodegraph.cache import Entry
from nodegraph.errors import NodeError
from nodegraph.events import (
    Event,
    NodeBlocked,
    NodeCached,
    NodeFailed,
    RunFinished,
    Saved,
)
from nodegraph.graph import Ref
from nodegraph.plan import Literal, Plan, Planner, Step
from nodegraph.task import DONE, FAILED, IDLE, READY, RUNNING, WAITING, Source, Task, Wish

if TYPE_CHECKING:
    from nodegraph.session import Session

log = logging.getLogger(__name__)


class Scheduler:
    """Moves the tasks of a plan. A subclass starts them.

    Attributes:
        id: name of the run.
        ran: ids of the nodes that ran, in order.
        cached: ids of the nodes whose result was at hand.
        errors: by id of the node that failed.
        over: set at the end.
    """

    def __init__(self, session: Session, run_id: str, plan: Plan, planner: Planner, *, scope: str, priority: int,
                 wants_values: bool, emit: Callable[[Event], None]) -> None:  # fmt: skip
        self.id, self.plan, self.scope, self.emit = run_id, plan, scope, emit
        self._session, self._planner, self._priority, self._wants_values = session, planner, priority, wants_values
        self._lock, self._cache, self._flights = session.lock, session.cache, session.flights
        self._steps: dict[str, Step] = dict(plan.steps)
        self._order = {name: index for index, name in enumerate(plan.steps)}
        self._tasks: dict[str, Task] = {}
        self._todo: deque[Task | Wish] = deque()
        self._ready: dict[str, list[Task]] = {}
        self._pumping: set[str] = set()
        self._active = 0  # tasks ready, running, or waiting for another run
        self._foreign = 0  # of these, waiting for another run
        self._is_busy = False  # inside `_proceed` or `_finish`: a nested `_proceed` leaves the work to it
        self._fresh: list[Task] = []  # just done; held until all who wait have looked
        self._failed: dict[bytes, Task] = {}
        self._async: set[asyncio.Future[Any]] = set()
        self._started = time.perf_counter()
        self.over = threading.Event()
        self._is_cancelled = self._is_over = False
        self._blocked = 0
        self._targets: list[Task] = []
        self._recipes = session.recipes_of(scope)
        self.ran: list[str] = []
        self.cached: list[str] = []
        self.errors: dict[str, NodeError] = {}

    # All of this runs with the lock held

    def _start_async(self, task: Task) -> None:
        """Starts an async node."""
        raise NotImplementedError

    def _pump(self, lane: str) -> None:
        """Works off the ready tasks of a lane, in its thread."""
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
            if (
                onward is not None and onward.state == DONE and onward.alias
            ):  # halve the path, so that loops stay linear
                task.alias = (
                    *task.alias[: int(ref.slot)],
                    onward.alias[int(alias.slot)],
                    *task.alias[int(ref.slot) + 1 :],
                )
                continue
            ref = alias

    def _proceed(self) -> None:
        """Moves on every task that can move, then wakes lanes, or ends the run when nothing is left to do."""
        if self._is_busy:
            return
        self._is_busy = True
        todo = self._todo
        while True:
            while todo and not self._is_cancelled:
                item = todo.popleft()
                try:
                    if isinstance(item, Task):
                        self._advance(item)
                    else:
                        self._grant(item)
                except Exception as error:
                    self._abort(item.step.id if isinstance(item, Task) else item.ref.node, error)
                    return
            while self._fresh:
                self._unuse(self._fresh.pop())
            if self._active or self._is_over or self._is_cancelled or not self._break_circle():
                break
        self._is_busy = False
        for lane, heap in self._ready.items():
            if heap and lane not in self._pumping:
                self._pumping.add(lane)
                self._session.lane(lane).submit(lambda lane=lane: self._pump(lane), self._priority)
        if self._active == 0 and not self._is_over:
            self._end()

    def _break_circle(self) -> bool:
        """With nothing left to do, a task that still waits can only wait for itself: fails it. True when there was one."""
        for task in self._tasks.values():
            if task.state == WAITING and task.is_wanted:
                self._fail(
                    task,
                    NodeError(task.step.id, task.step.spec.name, "it waits for itself: its expansion forms a circle"),
                )
                return True
        return False

    def _advance(self, task: Task) -> None:
        """Moves a task from IDLE or WAITING as far as it gets."""
        if task.state > WAITING:
            return
        step = task.step
        is_control = step.spec.kind == "control"
        if not is_control:
            if step.key is None:
                if not self._identify(task):
                    return
                step = task.step
            if not task.is_wanted:
                task.state = IDLE
                return
            if self._take(task):
                return
        if task.sources is None and not self._find_sources(task):
            return
        missing = 0
        for _, source, _ in task.sources or ():
            if source is None or (source.state == DONE and source.is_held):
                continue
            if source.state == FAILED:
                self._block(task, source)
                return
            missing += 1
            source.waiters.append(task)
            self._want(source)
        if missing:
            task.state, task.missing = WAITING, missing
        elif step.spec.is_async:
            task.state = RUNNING
            self._active += 1
            self._start_async(task)
        else:
            task.state = READY
            self._active += 1
            heapq.heappush(self._ready.setdefault(step.spec.lane, []), task)

    def _want(self, task: Task) -> None:
        """Makes sure a task's value is on its way."""
        task.is_wanted = True
        if task.state == DONE and not task.is_held and task.step.spec.kind != "control":
            task.state = IDLE  # let go since; the cache is asked again
        if task.state == IDLE:
            task.state = WAITING
            self._todo.append(task)

    def _take(self, task: Task) -> bool:
        """True when the result is at hand, or someone else is making it."""
        key = task.step.key
        assert key is not None
        leader = self._flights.get(key)
        if leader is task:
            return False
        if key in self._failed:
            self._block(task, self._failed[key])
            return True
        if leader is None:
            entry = self._cache.find(key)
            if entry is not None and self._wants_values and task.is_target and self._cache.outputs(entry) is None:
                entry.pins -= 1
                entry = None
            if entry is not None:
                self._hit(task, entry)
                return True
            self._flights[key] = task
            return False
        leader.waiters.append(task)
        task.state, task.missing = WAITING, 1
        if leader.run is not self:
            self._active += 1
            self._foreign += 1
        return True

    def _hit(self, task: Task, entry: Entry) -> None:
        task.entry, task.is_held, task.state = entry, True, DONE
        name = task.step.id
        self.cached.append(name)
        self.emit(NodeCached(self.id, name, task.step.spec.name, entry.tier))
        for file in entry.saved:
            self.emit(Saved(self.id, name, file, True))
        self._recipes[name] = task.step
        self._wake(task.waiters)

    def _identify(self, task: Task) -> bool:
        """Gives a task its key once what its links resolve to is known; else waits."""
        missing = 0
        found: dict[str, Any] = {}
        for name, argument in task.step.arguments.items():
            if type(argument) is not Ref:
                continue
            source, slot = self._resolve(argument)
            if source is None:
                found[name] = Literal(slot)
            elif source.state == FAILED:
                self._block(task, source)
                return False
            elif source.step.spec.kind == "control":
                missing += 1
                source.waiters.append(task)
                self._want(source)
            elif source.step.key is None:
                missing += 1
                source.key_waiters = source.key_waiters or []
                source.key_waiters.append(task)
                if source.state == IDLE:
                    source.state = WAITING
                    self._todo.append(source)
            else:
                found[name] = (source.step.key, slot)
        if missing:
            task.state, task.missing = WAITING, missing
            return False
        task.step = self._planner.key(task.step, found)
        self._wake(task.key_waiters)
        return True

    def _find_sources(self, task: Task) -> bool:
        """Notes which tasks feed a task's values; waits when a control node has still to say."""
        sources: list[Source] = []
        missing = 0
        inputs = task.step.spec.by_name
        for name, argument in task.step.arguments.items():
            if type(argument) is not Ref or inputs[name].is_lazy:
                continue
            source, slot = self._resolve(argument)
            if source is not None and source.step.spec.kind == "control":
                if source.state == FAILED:
                    self._block(task, source)
                    return False
                missing += 1
                source.waiters.append(task)
                self._want(source)
            sources.append((name, source, slot))
        if missing:
            task.state, task.missing = WAITING, missing
            return False
        for _, source, _ in sources:
            if source is not None:
                source.uses += 1
        task.sources = sources
        return True

    def _wake(self, waiters: list[Any] | None) -> None:
        if not waiters:
            return
        woken, waiters[:] = waiters[:], []
        others: set[Scheduler] = set()
        for item in woken:
            item.missing -= 1
            run = item.run
            if item.missing == 0:
                run._todo.append(item)
            if run is not self and not run._is_cancelled:
                run._active -= 1
                run._foreign -= 1
                others.add(run)
        for run in others:
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

    def _grant(self, wish: Wish) -> None:
        """Gives a control node the value it awaits, when it is there."""
        source, slot = self._resolve(wish.ref)
        if source is None:
            self._settle(wish, slot)
            return
        if source.state == FAILED:
            self._settle(wish, self._error_of(source), is_error=True)
            return
        if source.step.spec.kind != "control" and source is not wish.task:
            wish.task = source
            source.uses += 1
        if source.state != DONE or not source.is_held:
            wish.missing = 1
            source.waiters.append(wish)  # type: ignore[arg-type]
            self._want(source)
            return
        assert source.entry is not None
        outputs = self._cache.outputs(source.entry)
        if outputs is None:
            self._lost(source)
            self._todo.append(wish)
            return
        self._settle(wish, outputs[slot])
        self._unuse(source)

    def _settle(self, wish: Wish, value: Any, is_error: bool = False) -> None:
        self._session.settle(wish.future, value, is_error)

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
        self._session.finished(self)
        self.emit(RunFinished(
            self.id, status, time.perf_counter() - self._started, len(self.ran), len(self.cached),
            max(0, len(self._steps) - touched), len(self.errors), self._blocked,
        ))  # fmt: skip
        self.over.set()

    def _error_of(self, task: Task) -> NodeError:
        cause = task.cause or task
        error = self.errors.get(cause.step.id)
        return error or NodeError(task.step.id, task.step.spec.name, "did not run: the run was cancelled")
