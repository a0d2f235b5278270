"""What a workflow is to its caller: prepared, a run with its events, its results, and as a function."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from nodegraph.errors import NodegraphError, WorkflowError
from nodegraph.events import Event, RunFinished
from nodegraph.execute import Run
from nodegraph.graph import Ref
from nodegraph.plan import Plan, Planner
from nodegraph.workflow import Workflow


class Prepared(NamedTuple):
    """A workflow ready to run: its plan, and where its declared outputs come from."""

    workflow: Workflow
    plan: Plan
    planner: Planner
    outputs: Mapping[str, Ref]
    scope: str


class Running:
    """A run that has been started. Iterate over it for its events, up to RunFinished."""

    def __init__(self, run: Run, prepared: Prepared, stream: queue.SimpleQueue[Event]) -> None:
        self._run, self._stream = run, stream
        self.id, self.plan, self.outputs = run.id, prepared.plan, prepared.outputs
        self.finished: RunFinished | None = None

    @property
    def ran(self) -> list[str]:
        """Ids of the nodes that ran, in order."""
        return self._run.ran

    @property
    def cached(self) -> list[str]:
        """Ids of the nodes whose result was at hand."""
        return self._run.cached

    @property
    def errors(self) -> Mapping[str, NodegraphError]:
        """Errors by id of the node that failed."""
        return self._run.errors

    def __iter__(self) -> Iterator[Event]:
        while self.finished is None:
            event = self._stream.get()
            if isinstance(event, RunFinished):
                self.finished = event
            yield event

    def wait(self) -> RunFinished:
        """Waits for the end."""
        for _ in self:
            pass
        assert self.finished is not None
        return self.finished

    def next_event(self, timeout: float) -> Event | None:
        """The next event, or None after `timeout` seconds without one."""
        try:
            event = self._stream.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(event, RunFinished):
            self.finished = event
        return event

    def cancel(self) -> None:
        """Stops the run at the next step of what is running."""
        self._run.cancel()

    def value(self, node: str, slot: int | str = 0) -> Any:
        """An output of a target, after the end.

        Raises:
            NodeError: the node failed or did not run.
        """
        number = slot if isinstance(slot, int) else self.plan.steps[node].spec.slots[slot]
        return self._run.value(node, number)

    def result(self) -> Result:
        """The declared outputs, after the end; lets go of the run's hold on them."""
        self.wait()
        try:
            return Result({name: self._run.value(ref.node, int(ref.slot)) for name, ref in self.outputs.items()})
        finally:
            self.release()

    def release(self) -> None:
        """Lets go of the targets' values."""
        self._run.release()


class Result(Mapping[str, Any]):
    """Declared outputs by name, as items or attributes: `result.image` is a tensor [B, H, W, 3] in 0..1."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"no output {name!r}; it has {', '.join(self.__dict__.get('_values', {}))}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Result({', '.join(self._values)})"


class Runner(Protocol):
    """What a function needs of its session."""

    def prepare(self, workflow: Workflow, *, scope: str, wants_outputs: bool) -> Prepared:
        """Plans a workflow."""
        ...

    def submit(self, prepared: Prepared, *, wants_values: bool) -> Running:
        """Starts a run."""
        ...


class Function:
    """A workflow as a function: `text_to_image(prompt="a cat", seed=7).image`. Sinks do not run.

    Attributes:
        workflow: the document.
    """

    def __init__(self, session: Runner, workflow: Workflow, origin: str) -> None:
        self._session, self.workflow, self._origin = session, workflow, origin
        self.__doc__ = workflow.doc or None

    def __call__(self, **inputs: Any) -> Result:
        """Runs it with declared inputs set.

        Raises:
            WorkflowError: an input is unknown or wrong, or the document has no declared outputs.
            NodeError: a node failed.
        """
        if not self.workflow.outputs:
            raise WorkflowError.of("it declares no outputs", '"outputs": {"image": "8.IMAGE"}', "or use Session.run")
        workflow = self.workflow.with_inputs(inputs)
        prepared = self._session.prepare(workflow, scope=self._origin, wants_outputs=True)
        return self._session.submit(prepared, wants_values=True).result()
