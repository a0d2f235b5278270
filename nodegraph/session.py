"""A session: the registry, folders, device, caches and models that runs share, and the Python API over them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import secrets
import sys
import threading
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodegraph.board import Board
from nodegraph.cache import Cache
from nodegraph.collector import Calm, quiet
from nodegraph.devices import Device, Lane, pick_device, torch_version
from nodegraph.disk import DiskTier
from nodegraph.documents import Document, from_text, open_document
from nodegraph.errors import (
    FileProblem,
    NodegraphError,
    Problem,
    WorkflowError,
)
from nodegraph.events import Event
from nodegraph.execute import Run
from nodegraph.files import Folders, stamp
from nodegraph.graph import Graph, Ref
from nodegraph.keys import FORMAT, digest
from nodegraph.memory import Ledger
from nodegraph.models import Models
from nodegraph.plan import Plan, Planner, Step, numbered
from nodegraph.registry import Registry
from nodegraph.running import Function, Prepared, Result, Running
from nodegraph.settings import GIB, Settings
from nodegraph.spec import NodeSpec
from nodegraph.subgraph import PREFIX, Inlined, inline, spec_of_workflow
from nodegraph.task import Task
from nodegraph.why import GONE, NOT_KEPT, Recipe, why
from nodegraph.workflow import Workflow

log = logging.getLogger(__name__)
LARGE = 1000  # steps from which a plan is worth hiding from the garbage collector
SCOPES = 64  # workflows whose last recipes and plans are kept in memory
PLANNED = 20_000  # steps of all these plans together


class Session:
    """Runs workflows; holds what they share. Close it, or use it in a `with` block.

    Raises:
        NodegraphError: the device is unknown, a node folder or YAML file is missing.
    """

    def __init__(self, settings: Settings | None = None, *, registry: Registry | None = None) -> None:
        self.settings = settings = settings or Settings()
        self.registry = Registry().with_entry_points() if registry is None else registry
        for folder in settings.node_paths:
            self.registry = self.registry.with_folder(folder)
        for file, reason in self.registry.failures.items():
            log.warning("node file %s did not load: %s", file, reason)
        self.device: Device = pick_device(settings.device)
        self.lock = threading.RLock()
        self.flights: dict[bytes, Task] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._lanes: dict[str, Lane] = {}
        self._recipes: dict[str, dict[str, Step]] = {}
        self._plans: dict[str, Plan] = {}
        self._runs: dict[str, Run] = {}
        self._calm = Calm()
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._async: threading.Thread | None = None
        folders = Folders.of(
            settings.home, roots=settings.model_roots, extra=settings.extra_model_paths, output=settings.output_dir,
            shipped=_shipped(self.registry, "models"), workflows=_shipped(self.registry, "workflows"),
        )  # fmt: skip
        self.disk = self._open_disk(folders.home)
        if not settings.reads_content:
            folders = replace(folders, digest=stamp)
        elif self.disk is not None:
            folders = replace(folders, digest=self.disk.digest)
        self.folders = folders
        self.cache = Cache(
            self.ledger, self.disk, keeps=settings.keeps, write=lambda job: self.lane("disk").submit(job)
        )
        self._planner: Planner | None = None
        self.models = Models(self.device, settings.dtype, lambda: self.ledger(self.device.name), self.lock)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what runs, writes what is to be written, and lets go of everything."""
        with self.lock:
            runs = list(self._runs.values())
        for run in runs:
            run.cancel()
        for run in runs:
            run.over.wait()
        for name in sorted(self._lanes, key=lambda name: name == "disk"):
            self._lanes[name].close()
        if self._loop is not None and self._async is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._async.join()
            self._loop = self._async = None
        if self.disk is not None:
            self.disk.close()

    # Documents and plans

    def open(self, name: str | Path) -> Document:
        """A workflow by path, picture or library name; see `open_document`."""
        return open_document(name, self.folders.workflows, self.registry, self.folders.names)

    def prepare(self, workflow: Workflow, targets: Iterable[str] | None = None, *, scope: str = "",
                wants_outputs: bool = False) -> Prepared:  # fmt: skip
        """Plans a workflow.

        Args:
            workflow: the document.
            targets: node ids to run; by default the sinks, or the declared outputs when there are none.
            scope: name under which the last recipe of each node is remembered.
            wants_outputs: run what the declared outputs need, and no sinks.

        Raises:
            WorkflowError: with every problem.
        """
        with quiet():
            return self._prepare(workflow, targets, scope or workflow.name, wants_outputs)

    def _prepare(self, workflow: Workflow, targets: Iterable[str] | None, scope: str, wants_outputs: bool) -> Prepared:
        inlined = self.inline(Graph.of(workflow))
        planner = self.planner()
        wanted = None if targets is None else [inlined.target(name, workflow) for name in targets]
        if wanted is None and workflow.outputs and (wants_outputs or not planner.sinks(inlined.graph)):
            wanted = inlined.makers(workflow, workflow.outputs)
        plan = planner.plan(inlined.graph, wanted, self._plans.get(scope))
        with self.lock:
            self._plans.pop(scope, None)
            self._plans[scope] = plan
            while len(self._plans) > 1 and (
                len(self._plans) > SCOPES or sum(len(kept.steps) for kept in self._plans.values()) > PLANNED
            ):
                del self._plans[next(iter(self._plans))]
        ends = {name: inlined.output(place) for name, place in workflow.outputs.items()}
        found = {
            name: numbered(end, plan.steps)
            for name, end in ends.items()
            if isinstance(end, Ref) and end.node in plan.steps
        }
        return Prepared(workflow, plan, planner, found, scope)

    def planner(self) -> Planner:
        """The planner with this session's settings in its keys; kept while the registry is the same."""
        kept = self._planner
        if kept is not None and kept.registry is self.registry and kept.files is self.folders:
            return kept
        salt = digest("settings", FORMAT, self.device.kind, self.settings.dtype, torch_version())
        self._planner = Planner(
            self.registry, self.folders, salt=salt, sink_salt=digest("output", str(self.folders.output)),
            fresh=lambda: secrets.token_bytes(16),
        )  # fmt: skip
        return self._planner

    def check(self, workflow: Workflow) -> None:
        """Checks every node of a workflow, also those that no target needs.

        Raises:
            WorkflowError: with every problem.
        """
        with quiet():
            inlined = self.inline(Graph.of(workflow))
            problems: list[Problem] = []
            try:
                self.planner().plan(inlined.graph, inlined.graph.nodes)
            except WorkflowError as error:
                problems += error.problems
            if not problems:
                self._prepare(workflow, None, workflow.name, wants_outputs=bool(workflow.outputs))
        if problems:
            raise WorkflowError(problems)

    def spec(self, class_type: str) -> NodeSpec | None:
        """The interface of a node type, also of a workflow used as a node; None when there is no such thing."""
        return self._spec(class_type, ())

    def _spec(self, class_type: str, around: tuple[str, ...]) -> NodeSpec | None:
        if not class_type.startswith(PREFIX):
            return self.registry.get(class_type)
        name = class_type.removeprefix(PREFIX)
        if name in around:
            return None  # it contains itself: planning says so
        try:
            return spec_of_workflow(name, self._linked(name), lambda inner: self._spec(inner, (*around, name)))
        except (NodegraphError, OSError):
            return None

    # Runs

    def submit(
        self, prepared: Prepared, *, priority: int = 0, wants_values: bool = False, claim: str = "",
        texts: Mapping[str, str | None] | None = None,
    ) -> Running:  # fmt: skip
        """Starts a run; a lower priority number goes first.

        Args:
            prepared: from `prepare`.
            priority: place among the runs of this session.
            wants_values: read the targets' values even when only the disk has them.
            claim: name of the run for its files, the same when it is tried again; see `Folders.save`.
            texts: what pictures carry besides the workflow, or in place of it, by key; None takes one away.
        """
        stream: queue.SimpleQueue[Event] = queue.SimpleQueue()
        run_id = f"{next(self._numbers)}-{secrets.token_hex(4)}"
        run = Run(
            self, run_id, prepared.plan, prepared.planner, document=prepared.workflow, scope=prepared.scope,
            priority=priority, wants_values=wants_values, emit=stream.put, claim=claim, texts=texts,
        )  # fmt: skip
        with self.lock:
            self._runs[run_id] = run
            if len(prepared.plan.steps) >= LARGE:
                self._calm.begin(run_id)
        run.start()
        return Running(run, prepared, stream)

    def run(self, workflow: Workflow, **inputs: Any) -> Running:
        """Plans and starts a workflow with declared inputs set; iterate over what it returns for the events.

        Raises:
            WorkflowError: with every problem.
        """
        return self.submit(self.prepare(workflow.with_inputs(inputs)))

    def load(self, name: str | Path) -> Function:
        """A workflow as a Python function of its declared inputs."""
        document = self.open(name)
        return Function(self, document.workflow, document.origin)

    # What runs need

    def inline(self, graph: Graph) -> Inlined:
        """The graph with its workflow nodes, skipped nodes and reroutes replaced by what they stand for."""
        return inline(graph, self._linked, self.spec)

    def lane(self, name: str) -> Lane:
        """The lane of this name, made when first asked for."""
        with self.lock:
            if name not in self._lanes:
                self._lanes[name] = Lane(name)
            return self._lanes[name]

    def ledger(self, name: str) -> Ledger:
        """The byte budget of a device; `cuda` is its first, so that weights and values meet in one budget."""
        found = self._ledgers.get(name)
        if found is not None:
            return found
        name = name if name == "cpu" or ":" in name else f"{name}:0"
        if name not in self._ledgers:
            limit = self.settings.ram_limit if name == "cpu" else self.settings.vram_limit
            if limit is None:
                limit = int(Device(name).memory()[1] * (0.5 if name == "cpu" else 0.9))
            self._ledgers[name] = Ledger(name, limit)
        return self._ledgers[name]

    def recipes_of(self, scope: str) -> dict[str, Step]:
        """How each node of a workflow was run last in this session."""
        with self.lock:
            found = self._recipes.pop(scope, {})
            self._recipes[scope] = found
            while len(self._recipes) > SCOPES:
                del self._recipes[next(iter(self._recipes))]
            return found

    def why(self, scope: str, recipes: Mapping[str, Step], step: Step) -> str:
        """Why a step has to run, in words."""
        if step.key is not None and self.cache.lost and (lost := self.cache.lost.pop(step.key, None)):
            return lost
        previous = recipes.get(step.id)
        if previous is not None:
            return why(Recipe.of(previous), step)
        if self.disk is None:
            return why(None, step)
        found = self.disk.recipe(scope, step.id) if self.settings.keeps else None
        reason = why(None if found is None else Recipe.from_json(found), step)
        return NOT_KEPT if reason == GONE else reason

    def free_memory(self) -> str:
        """Lets go of every cached value and model not in use -> what is still held, in words."""
        with self.lock:
            for ledger in list(self._ledgers.values()):  # host memory may join as devices are cleared into it
                ledger.clear()
            held = ", ".join(f"{ledger.used / GIB:.2f} GiB on {name}" for name, ledger in self._ledgers.items())
        self.device.release()
        return held

    def held(self) -> dict[str, dict[str, int]]:
        """Bytes of models and cached values held on each device, and its budget."""
        with self.lock:
            return {name: {"used": ledger.used, "budget": ledger.budget} for name, ledger in self._ledgers.items()}

    def spawn(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Runs a coroutine on the session's event loop."""
        with self.lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._async = threading.Thread(target=_serve, args=(self._loop,), name="nodegraph-async", daemon=True)
                self._async.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def settle(self, future: asyncio.Future[Any], value: Any, is_error: bool) -> None:
        """Gives an awaited value to the event loop."""

        def give() -> None:
            if not future.done():
                (future.set_exception if is_error else future.set_result)(value)

        future.get_loop().call_soon_threadsafe(give)

    def finished(self, run: Board) -> None:
        """Forgets a run that is over, and writes down how its nodes were run."""
        self._runs.pop(run.id, None)
        self._calm.end(run.id)
        disk = self.disk
        if disk is not None and self.settings.keeps and run.ran:
            steps = [run.step(name) for name in run.ran]
            found = {step.id: Recipe.of(step).as_json() for step in steps if step.key is not None}
            self.lane("disk").submit(lambda: disk.put_recipes(run.scope, found))

    def _linked(self, name: str) -> Workflow:
        path = self.folders.path("workflows", name if name.endswith(".json") else name + ".json")
        return from_text(path.read_bytes(), self.registry)

    def _open_disk(self, home: Path) -> DiskTier | None:
        settings = self.settings
        if settings.cache_dir is None:
            return None
        folder = Path(settings.cache_dir).expanduser() if settings.cache_dir else home / "cache"
        packages = {spec.module.partition(".")[0] for spec in self.registry}
        return DiskTier(folder, settings.disk_limit, packages, self.device.name)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        left = asyncio.all_tasks(loop)  # what nodes began and did not wait for
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()


def _shipped(registry: Registry, name: str) -> list[Path]:
    """Folders of this name (`models`, `workflows`) in the packages of the nodes, or beside these in a checkout."""
    found: list[Path] = []
    for package in dict.fromkeys(spec.module.partition(".")[0] for spec in registry):
        for path in getattr(sys.modules.get(package), "__path__", ()):
            found.append(Path(path) / name)
            if (Path(path).parent / "pyproject.toml").is_file():
                found.append(Path(path).parent / name)
    return [folder for folder in found if folder.is_dir()]


__all__ = ["FileProblem", "Function", "Prepared", "Result", "Running", "Session", "Settings"]
