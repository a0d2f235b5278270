"""The desk: node types, folders and planning, without torch and off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

from typing_extensions import ParamSpec

from nodegraph.documents import Document
from nodegraph.files import Folders
from nodegraph.graph import Graph
from nodegraph.registry import Registry
from nodegraph.session import Session
from nodegraph.settings import Settings
from nodegraph.workflow import Workflow

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 4
PLANNERS = 2  # threads that plan: more would only wait for each other, as all of it is Python


class Sketch(NamedTuple):
    """A workflow that can run: what is wanted of it (None for its sinks), and how many nodes that needs."""

    targets: tuple[str, ...] | None
    nodes: int


class Desk:
    """Knows the nodes and the folders; checks workflows. Its session never runs anything.

    Args:
        settings: of the workers' sessions.
    """

    def __init__(self, settings: Settings) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "desk")
        self._planners = ThreadPoolExecutor(PLANNERS, "desk-plan")
        self.folders = Folders.of(
            settings.home, roots=settings.model_roots, extra=settings.extra_model_paths, output=settings.output_dir
        )
        checks = replace(settings, device="cpu", vram_limit=1, cache_dir=None, reads_content=False)
        self._opened = asyncio.get_running_loop().run_in_executor(self._pool, Session, checks)
        self._opened.add_done_callback(self._know)

    def _know(self, opened: asyncio.Future[Session]) -> None:
        if not opened.cancelled() and opened.exception() is None:
            self.folders = opened.result().folders  # with those that node packages ship

    @property
    def is_open(self) -> bool:
        """True once the node types are at hand."""
        return self._opened.done() and not self._opened.cancelled() and self._opened.exception() is None

    async def session(self) -> Session:
        """The session behind it.

        Raises:
            NodegraphError: a folder or a setting is wrong.
        """
        return await asyncio.shield(self._opened)

    async def registry(self) -> Registry:
        """The node types."""
        return (await self.session()).registry

    async def do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does blocking work on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))

    async def think(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does work that holds the interpreter, such as planning, on a thread of few."""
        return await asyncio.get_running_loop().run_in_executor(self._planners, partial(function, *args, **kwargs))

    async def open(self, name: str) -> Document:
        """A workflow by its name in the library; never by a path.

        Raises:
            FileProblem: there is none.
            WorkflowError: the file is no workflow.
        """
        session = await self.session()
        return await self.do(_open, session, name)

    def close(self) -> None:
        """Ends its threads."""
        for pool in (self._pool, self._planners):
            pool.shutdown(wait=True, cancel_futures=True)


def sketch_of(session: Session, workflow: Workflow, targets: Sequence[str] | None = None, scope: str = "") -> Sketch:
    """Checks a workflow as a run of it would; work for `Desk.think`.

    Args:
        session: the desk's.
        workflow: the document.
        targets: ids of nodes or declared outputs; by default every sink and every declared output.
        scope: name under which the plan is remembered, so that the next one costs what changed.

    Raises:
        WorkflowError: with every problem.
    """
    wanted: Sequence[str] | None = targets
    if targets is None and workflow.outputs:
        sinks = session.planner().sinks(session.inline(Graph.of(workflow)).graph)
        wanted = [*sinks, *workflow.outputs]
    prepared = session.prepare(workflow, wanted, scope=scope)
    return Sketch(None if wanted is None else tuple(wanted), len(prepared.plan.steps))


def _open(session: Session, name: str) -> Document:
    path = session.folders.path("workflows", name if name.endswith(".json") else name + ".json")
    return session.open(path)
