"""One run of a plan: its public face, and the calls of its nodes.

A lane's thread takes the next ready task, calls it without the lock, enters the result and goes on; so a chain of
nodes costs no change of threads. Which task comes next is `scheduler`'s matter, how it is called is `call`'s.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nodegraph import call
from nodegraph.context import Context
from nodegraph.documents import metadata_of
from nodegraph.errors import (
    Interrupted,
    NodegraphError,
    Problem,
    WorkflowError,
)
from nodegraph.events import (
    Event,
    NodeFinished,
    NodePreview,
    NodeProgress,
    NodeStarted,
    Noted,
    RunStarted,
    Saved,
    SavedFile,
)
from nodegraph.graph import Gap, Graph, Node, Ref
from nodegraph.keys import digest
from nodegraph.modes import Given
from nodegraph.places import placed
from nodegraph.plan import Literal, Plan, Planner, numbered
from nodegraph.previews import Previews
from nodegraph.scheduler import Scheduler
from nodegraph.task import DONE, FAILED, IDLE, RUNNING, WAITING, Task, Wish
from nodegraph.types import Lazy
from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.session import Session

LONGEST_ID = 120


class Run(Scheduler):
    """A plan being carried out; its events go to `emit` in order."""

    def __init__(self, session: Session, run_id: str, plan: Plan, planner: Planner, *, document: Workflow | None,
                 scope: str, priority: int, wants_values: bool, emit: Callable[[Event], None], claim: str = "",
                 texts: Mapping[str, str | None] | None = None) -> None:  # fmt: skip
        super().__init__(
            session, run_id, plan, planner, scope=scope, priority=priority, wants_values=wants_values, emit=emit
        )
        self._session, self._document = session, document
        self._claim, self._texts = claim, texts or {}
        self._paces: dict[str, tuple[int, float]] = {}  # the first step told of a node, and when
        self._previews = Previews(lambda node, format, image: emit(NodePreview(run_id, node, format, image)))

    # What the session calls

    def start(self) -> None:
        """Looks up the targets and sets going what is not at hand."""
        self.emit(RunStarted(self.id, len(self.plan.steps)))
        with self._lock:
            for name in self.plan.targets:
                task = self._task(name)
                task.is_target = task.is_wanted = True
                task.uses += 1
                self._targets.append(task)
                self._todo.append(task)
            self._proceed()

    def cancel(self) -> None:
        """Stops the run at the next step of what is running."""
        with self._lock:
            self._halt()
            self._proceed()

    def value(self, node: str, slot: int) -> Any:
        """An output of a target after the run.

        Raises:
            NodeError: the node failed or could not run.
        """
        with self._lock:
            source, place = self._resolve(Ref(node, slot))
            if source is None:
                return place
            entry = source.entry if source.state == DONE else None
            outputs = entry and (self._cache.outputs(entry) if source.is_held else entry.outputs)
        if outputs is None:
            raise self._error_of(source)
        return outputs[place]

    def release(self) -> None:
        """Lets go of the targets' values."""
        with self._lock:
            for task in self._targets:
                task.is_target = False
                self._unuse(task)
            self._targets.clear()

    # What contexts call (any thread)

    def check(self) -> None:
        """Raises Interrupted when the run was cancelled."""
        if self._is_cancelled:
            raise Interrupted

    def progress(self, node: str, step: int, total: int) -> None:
        """A step of a node is done."""
        now = time.perf_counter()
        first, since = self._paces.setdefault(node, (step, now))
        if step <= first or now <= since:
            self._paces[node] = step, now
            self.emit(NodeProgress(self.id, node, step, total))
        else:
            pace = (step - first) / (now - since)
            self.emit(NodeProgress(self.id, node, step, total, pace, (total - step) / pace))

    def preview(self, node: str, make: Callable[[], tuple[str, bytes]]) -> None:
        """Has a small picture of a node's work made, beside it, where the session wants any."""
        if self._session.settings.previews:
            self._previews.offer(node, make)

    def show(self, node: str, format: str, image: bytes) -> None:
        """Shows an encoded picture."""
        self.emit(NodePreview(self.id, node, format, image))

    def note(self, node: str, text: str) -> None:
        """Tells a sentence about a node, once."""
        task = self._tasks[node]
        if text not in task.notes:
            task.notes = (*task.notes, text)
            self.emit(Noted(self.id, node, text))

    def saved(self, node: str, file: SavedFile) -> None:
        """A sink's file is in place."""
        task = self._tasks[node]
        task.saved = [*(task.saved or ()), file]
        self.emit(Saved(self.id, node, file, False))

    def expand(self, node: str, class_type: str, inputs: Mapping[str, Any], name: str) -> tuple[Lazy[Any], ...]:
        """Adds a node while running; see Context.expand."""
        if self._steps[node].spec.kind != "control":
            raise NodegraphError("only a control node (async, with Lazy inputs) may expand the graph")
        made = Node(_expansion_id(node, name), class_type, {key: _unwrapped(value) for key, value in inputs.items()})
        inlined = self._session.inline(Graph({made.id: made}))
        nodes = inlined.graph.nodes
        problems: list[Problem] = []
        with self._lock:
            for each in nodes:
                if each in self._steps:
                    raise NodegraphError(f"expansion {each!r} is made twice; give each its own name")
            order = (nodes[each] for each in inlined.graph.order(nodes))
            steps = self._planner.steps(order, self._steps, inlined.graph, problems)
            if problems:
                raise WorkflowError(problems)
            for each, step in steps.items():
                self._order[each] = len(self._order)
                self._steps[each] = step
        slots = len(steps[made.id].spec.outputs if made.id in steps else inlined.outputs[made.id])
        return tuple(Lazy(self._source(inlined.follow(Ref(made.id, slot))), self._fetch) for slot in range(slots))

    def _source(self, end: Ref | Given | Gap) -> Ref | Literal:
        """What an output of an expansion stands for, as handles have it."""
        if isinstance(end, Gap):
            raise NodegraphError(f"it brings nothing, as {end.what}; {end.fix}")
        return numbered(end, self._steps) if isinstance(end, Ref) else Literal(end.value)

    # Calling nodes; lanes and the event loop

    def _pump(self, lane: str) -> None:
        """Runs this run's ready tasks of a lane, one after the other, in the lane's thread."""
        lock, heap, free = self._lock, self._ready[lane], self._session.free_memory
        with lock:
            while heap:
                task = heapq.heappop(heap)
                try:
                    arguments = self._begin(task)
                    if arguments is not None:
                        lock.release()
                        start = time.perf_counter()
                        try:
                            outcome = call.run_node(task.step, arguments, self._context(task), free)
                        finally:
                            seconds = time.perf_counter() - start
                            lock.acquire()
                        arguments = None  # a value must not outlive its last use in this frame
                        self._finish(task, outcome, seconds)
                        outcome = None
                    self._proceed()
                except Exception as error:
                    self._abort(task.step.id, error)
            self._pumping.discard(lane)

    def _begin(self, task: Task) -> dict[str, Any] | None:
        """The arguments of a task about to run; None when it must wait again as a value was lost."""
        step, places = task.step, self._session.folders.places
        values = dict(step.arguments)
        for name, source, slot in task.sources or ():
            if source is None:
                values[name] = slot
                continue
            entry = source.entry
            outputs = entry.outputs if entry is not None and entry.device == entry.home else None
            if outputs is None:
                outputs = None if entry is None else self._cache.outputs(entry)
                if outputs is None:
                    self._lost(source)
                    self._active -= 1
                    task.state = WAITING
                    self._todo.append(task)
                    return None
            values[name] = placed(outputs[slot], places) if places else outputs[slot]
        task.state = RUNNING
        task.saved, task.notes = None, ()
        reason = self._session.why(self.scope, self._recipes, step)
        self.emit(NodeStarted(self.id, step.id, step.spec.name, reason))
        if step.spec.kind == "control":
            for item in step.spec.inputs:
                if item.is_lazy and item.name in values:
                    values[item.name] = self._handle(values[item.name])
        return values

    def _handle(self, value: Any) -> Lazy[Any]:
        return Lazy(value if type(value) is Ref else Literal(value), self._fetch)

    def _context(self, task: Task) -> Context | None:
        if not task.step.spec.takes_context:
            return None
        session = self._session
        task.context = Context(self, task.step.id, device=session.device, models=session.models, files=session.folders,
                               metadata=self._metadata, claim=self._claim)  # fmt: skip
        return task.context

    def _metadata(self) -> dict[str, str]:
        found = {} if self._document is None else metadata_of(self._document, self._session.spec)
        return {name: text for name, text in {**found, **self._texts}.items() if text is not None}

    def _finish(self, task: Task, outcome: call.Outcome, seconds: float) -> None:
        """Enters what a call gave; the lock is held, and `_proceed` comes after."""
        self._is_busy = True
        self._active -= 1
        step = task.step
        self._previews.close(step.id)
        error = outcome.error
        if isinstance(error, Interrupted):
            self._halt()
            task.state = IDLE
            self._land(task)
            self._wake(task.waiters)
        elif error is not None:
            for tensor in outcome.spoilt:
                self._cache.spoil(tensor)
            awaited = None if error.node == step.id else self._tasks.get(error.node)
            if awaited is not None and awaited.state == FAILED:
                self._block(task, awaited)  # it awaited the value of a node that failed
            else:
                self._fail(task, error)
        else:
            self.ran.append(step.id)
            self._recipes[step.id] = step
            size = 0
            if step.spec.kind == "control":
                task.alias = outcome.outputs
            else:
                assert step.key is not None
                loading = 0.0
                if task.context is not None:
                    loading = sum(map(self._session.models.seconds_of, task.context.used))
                    task.context = None
                made = step.key, outcome.outputs, tuple(task.saved or ()), seconds, loading
                task.entry = self._cache.put(*made, notes=task.notes)
                task.is_held = True
                task.uses += 1
                self._fresh.append(task)
                size = task.entry.nbytes
            task.state = DONE
            self._land(task)
            self.emit(NodeFinished(self.id, step.id, step.spec.name, seconds, size))
            if step.spec.shows:
                self._show(task, outcome.outputs, is_cached=False)
            self._wake(task.waiters)
            if task.is_target and step.spec.kind == "control":
                self._forward_target(task)
        self._is_busy = False

    def _forward_target(self, task: Task) -> None:
        """What a wanted control node forwards is wanted in its place."""
        for alias in task.alias:
            if type(alias) is Ref:
                source, _ = self._resolve(alias)
                if source is not None and not source.is_target:
                    source.is_target = True
                    source.uses += 1
                    self._targets.append(source)
                    self._want(source)

    def _start_async(self, task: Task) -> None:
        arguments = self._begin(task)
        if arguments is None:
            return

        async def drive() -> None:
            start = time.perf_counter()
            work = asyncio.ensure_future(call.run_async(task.step, arguments, self._context(task)))
            with self._lock:
                self._async.add(work)
                if self._is_cancelled:
                    work.cancel()
            try:
                outcome = await work
            except asyncio.CancelledError:  # before its first line
                outcome = call.Outcome(error=Interrupted())
            with self._lock:
                self._async.discard(work)
                try:
                    self._finish(task, outcome, time.perf_counter() - start)
                    self._proceed()
                except Exception as error:
                    self._abort(task.step.id, error)

        self._session.spawn(drive())

    async def _fetch(self, source: object) -> Any:
        """The value behind a handle; awaited by control nodes on the event loop."""
        if isinstance(source, Literal):
            return source.value
        assert isinstance(source, Ref)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._todo.append(Wish(self, source, future))
            self._proceed()
        return await future


def _expansion_id(node: str, name: str) -> str:
    """Id of an expansion: that of its node and a name; shortened where a loop expands itself over and over."""
    made = f"{node}.{name}"
    return made if len(made) <= LONGEST_ID else f"{node.partition('.')[0]}.{digest('expansion', made).hex()}"


def _unwrapped(value: Any) -> Any:
    """A handle as the link or literal it stands for."""
    if isinstance(value, Lazy):
        source: Any = value.source
        return source.value if isinstance(source, Literal) else source
    return value
