"""The desk: node types and planning beside the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from nodegraph.errors import FileProblem, NodegraphError, WorkflowError
from nodegraph.settings import Settings
from nodegraph.workflow import Workflow
from server.desk import Desk, sketch_of
from tests.server.working import n, node_folder

GRAPH = {"1": n("Word", text="x"), "2": n("Slow", value=("1", 0)), "9": n("Note", value=("2", 0))}


def at_desk(test, folder, **changes):
    """Runs a test with a desk over the small nodes."""

    async def main():
        desk = Desk(Settings(**{"home": folder / "home", "node_paths": (node_folder(folder),), **changes}))
        try:
            return await test(desk)
        finally:
            await asyncio.to_thread(desk.close)

    return asyncio.run(main())


def test_a_plan_says_what_runs_and_how_much(tmp_path):
    async def test(desk):
        workflow = Workflow.of({"nodegraph": 1, "nodes": {**GRAPH, "8": n("Note", value="y")}})
        declared = Workflow.of({"nodegraph": 1, "nodes": GRAPH, "outputs": {"word": "1.0"}})
        session = await desk.session()
        asked = [(workflow,), (workflow, ["8"]), (declared,)]
        return *[await desk.think(sketch_of, session, *each) for each in asked], desk.is_open

    every, part, declared, is_open = at_desk(test, tmp_path)
    assert every == (None, 4)
    assert part == (("8",), 1)
    assert declared == (("9", "word"), 3)
    assert is_open


def test_every_problem_of_a_workflow_is_told(tmp_path):
    async def test(desk):
        graph = {"1": n("Word", text=7), "2": n("Slow", value=("7", 0), ms="x"), "9": n("Note", value=("2", 0))}
        with pytest.raises(WorkflowError) as found:
            await desk.think(sketch_of, await desk.session(), Workflow.of({"nodegraph": 1, "nodes": graph}))
        return [problem.node for problem in found.value.problems]

    assert at_desk(test, tmp_path).count("2") == 2


def test_work_goes_on_beside_the_loop(tmp_path):
    async def test(desk):
        names = [await desk.do(lambda: threading.current_thread().name) for _ in range(2)]
        with pytest.raises(ZeroDivisionError):
            await desk.do(lambda: 1 // 0)
        return names, await desk.do(lambda a, *, b: a + b, 1, b=2)

    names, total = at_desk(test, tmp_path)
    assert all(name.startswith("desk") for name in names)
    assert total == 3


def test_workflows_are_opened_by_name_and_never_by_path(tmp_path):
    library = tmp_path / "home" / "workflows"
    library.mkdir(parents=True)
    text = '{"nodegraph": 1, "nodes": {"1": {"class_type": "Note", "inputs": {"value": "x"}}}}'
    for place in (library / "mine.json", tmp_path / "secret.json"):
        place.write_text(text)

    async def test(desk):
        names = [(await desk.open(name)).workflow.nodes["1"].class_type for name in ("mine", "mine.json")]
        for name in ("../../secret", str(tmp_path / "secret.json"), str(tmp_path / "secret"), "none", "", ".."):
            with pytest.raises(FileProblem):
                await desk.open(name)
        return names

    assert at_desk(test, tmp_path) == ["Note", "Note"]


def test_a_setting_that_is_wrong_is_told_to_whoever_asks(tmp_path):
    async def test(desk):
        for _ in range(2):
            with pytest.raises(NodegraphError, match="nowhere"):
                await desk.registry()

    at_desk(test, tmp_path, node_paths=(tmp_path / "nowhere",))


def test_checking_reads_no_file_and_takes_no_device(tmp_path):
    async def test(desk):
        session = await desk.session()
        return session.settings.reads_content, session.settings.device, session.disk

    assert at_desk(test, tmp_path, device="cuda:7") == (False, "cpu", None)
