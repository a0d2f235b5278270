"""From a workflow to a run that is on disk."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from nodegraph.errors import WorkflowError
from nodegraph.settings import Settings
from nodegraph.workflow import Workflow
from server.desk import Desk
from server.feed import Feed
from server.runs import KeyReused, Runs
from server.store import Store
from server.submit import submit, words_of
from tests.server.working import n, node_folder

GRAPH = {"1": n("Word", text="A red BOAT"), "9": n("Note", value=("1", 0))}
PLAIN = {"nodegraph": 1, "nodes": GRAPH}


def with_parts(test, folder):
    """Runs a test with what submitting needs; `woken` counts calls for workers."""

    async def main():
        engine = Settings(home=folder / "home", node_paths=(node_folder(folder),))
        desk, store = Desk(engine), Store(folder / "a.sqlite")
        runs, woken = Runs(store, queue_limit=9, history_limit=9), []
        dispatcher = SimpleNamespace(wake=lambda: woken.append(1))
        service = SimpleNamespace(
            desk=desk, store=store, runs=runs, feed=Feed(runs), dispatcher=dispatcher, woken=woken
        )
        try:
            return await test(service)
        finally:
            await asyncio.to_thread(desk.close)
            store.close()

    return asyncio.run(main())


def test_a_workflow_is_stored_as_comfyui_has_it_and_told(tmp_path):
    async def test(service):
        ticket = await submit(service, Workflow.of(PLAIN), client="c", owner="o", extra={"a": 1}, pictures={"p": "t"})
        return ticket, await service.runs.get(ticket.id), await service.feed.since(ticket.id, 0), len(service.woken)

    ticket, record, told, woken = with_parts(test, tmp_path)
    assert ticket.is_new and woken == 1
    assert (json.loads(record.graph), record.document) == (GRAPH, None)
    assert (record.client, record.owner, record.scope, record.targets) == ("c", "o", "c", None)
    assert (json.loads(record.extra), json.loads(record.pictures)) == ({"a": 1}, {"p": "t"})
    assert [one.event["type"] for one in told] == ["RunQueued"]
    assert told[0].event["number"] == ticket.number == 0


def test_what_is_more_than_a_graph_is_kept_whole(tmp_path):
    document = {**PLAIN, "name": "mine", "doc": "words", "outputs": {"word": "1.0"}}

    async def test(service):
        ticket = await submit(service, Workflow.of(document))
        return await service.runs.get(ticket.id)

    record = with_parts(test, tmp_path)
    assert json.loads(record.document) == document
    assert json.loads(record.graph) == GRAPH
    assert (record.name, record.scope, record.targets) == ("mine", "mine", ("9", "word"))


def test_a_workflow_that_is_not_sound_is_not_stored(tmp_path):
    async def test(service):
        with pytest.raises(WorkflowError):
            await submit(service, Workflow.of({"nodegraph": 1, "nodes": {"9": n("Note")}}), key="k", body="b")
        return await service.runs.counts(), len(service.woken), await service.runs.known("", "k", "b")

    counts, woken, known = with_parts(test, tmp_path)
    assert (sum(counts.values()), woken, known) == (0, 0, None)


def test_a_request_that_comes_again_makes_no_second_run_and_is_not_told_again(tmp_path):
    async def test(service):
        workflow = Workflow.of(PLAIN)
        tickets = [await submit(service, workflow, key="k", body="b") for _ in range(3)]
        tickets += await asyncio.gather(*(submit(service, workflow, key="l", body="b") for _ in range(5)))
        with pytest.raises(KeyReused):
            await submit(service, workflow, key="k", body="other")
        told = [len(await service.feed.since(id, 0)) for id in {ticket.id for ticket in tickets}]
        return [ticket.is_new for ticket in tickets], told, (await service.runs.counts())["queued"], len(service.woken)

    is_new, told, queued, woken = with_parts(test, tmp_path)
    assert (is_new.count(True), told, queued, woken) == (2, [1, 1], 2, 2)


def test_secrets_of_comfyuis_clients_are_left_out(tmp_path):
    async def test(service):
        extra = {"auth_token_comfy_org": "s", "api_key_comfy_org": "s", "kept": 1}
        return await service.runs.get((await submit(service, Workflow.of(PLAIN), extra=extra)).id)

    assert json.loads(with_parts(test, tmp_path).extra) == {"kept": 1}


def test_searches_look_at_types_and_texts_once_each_and_not_at_all_of_them():
    assert words_of(GRAPH) == "word a red boat note"
    many = {str(number): n("Word", text="x" * 5000 + str(number)) for number in range(50)}
    assert len(words_of(many)) <= 8000
    assert words_of({"1": n("A", a=1, b=None, c=["x", 0])}) == "a"
