"""How the tasks of one run move: what is at hand is taken, what is not is made once, in the order of the plan.

- A task is needed for its *identity* (its key) or its *value*. Most keys are known from planning. Behind a control
  node they wait until it has run and said which handle it forwards; then a hit still needs nothing upstream.
- `todo`: tasks to look at again. `_advance` moves one on and never recurses, so depth costs no stack.

What the tasks are and where they stand is `board`'s matter.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, cast

from nodegraph.board import Board
from nodegraph.cache import Entry
from nodegraph.errors import NodeError
from nodegraph.events import NodeCached, Noted, Saved, Shown
from nodegraph.graph import Ref
from nodegraph.plan import Literal
from nodegraph.task import DONE, FAILED, IDLE, READY, RUNNING, WAITING, Source, Task, Wish
from nodegraph.types import Each


class Scheduler(Board):
    """Moves the tasks of a plan. A subclass starts them. All of it runs with the lock held."""

    def _start_async(self, task: Task) -> None:
        """Starts an async node."""
        raise NotImplementedError

    def _pump(self, lane: str) -> None:
        """Works off the ready tasks of a lane, in its thread."""
        raise NotImplementedError

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
                self._host.lane(lane).submit(lambda lane=lane: self._pump(lane), self._priority)
        if self._active == 0 and not self._is_over:
            self._end()

    def _break_circle(self) -> bool:
        """With nothing left to do, a task that still waits can only wait for itself: fails it. True if there is one."""
        for task in self._tasks.values():
            if task.state == WAITING and task.is_wanted:
                what = "it waits for itself: its expansion forms a circle"
                self._fail(task, NodeError(task.step.id, task.step.spec.name, what))
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
            if not source.is_wanted or source.state != WAITING:
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
        for text in entry.notes:
            self.emit(Noted(self.id, name, text))
        if task.step.spec.shows:
            self._show(task, self._cache.outputs(entry), is_cached=True)
        self._recipes[name] = task.step
        self._wake(task.waiters)

    def _show(self, task: Task, outputs: Sequence[Any] | None, *, is_cached: bool) -> None:
        """Tells the texts a sink gave."""
        if outputs is None:
            return
        for slot in task.step.spec.shows:
            found = outputs[slot]
            texts = cast("Each[str]", found) if isinstance(found, Each) else (found,)
            for text in texts:
                self.emit(Shown(self.id, task.step.id, text, is_cached))

    def _identify(self, task: Task) -> bool:
        """Gives a task its key once what its links resolve to is known; else waits."""
        missing = 0
        found: dict[str, tuple[bytes, int] | Literal] = {}
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
            source.waiters.append(wish)
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
        self._host.settle(wish.future, value, is_error)
