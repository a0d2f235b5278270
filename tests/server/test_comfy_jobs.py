"""Jobs: the queue and the history as ComfyUI's newer web frontend reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server.comfy_jobs import summary
from tests.server.v1.serving import GRAPH, Api, served

EDITED = {"extra_pnginfo": {"workflow": {"id": "a-workflow", "nodes": []}}}
FILE = {"filename": "a.png", "subfolder": "", "type": "output"}


def tell(home: Path, story: Callable[[Api], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        async with served(home, **settings) as api:
            await story(api)

    asyncio.run(run())


async def queued(api: Api, **body: Any) -> str:
    status, answer = await api.ask("POST", "/prompt", json={"prompt": GRAPH, "client_id": "c", **body})
    assert status == 200, answer
    return answer["prompt_id"]


async def listed(api: Api, query: str = "") -> list[tuple[str, str]]:
    status, answer = await api.ask("GET", f"/api/jobs?{query}")
    assert status == 200, answer
    return [(job["id"], job["status"]) for job in answer["jobs"]]


def test_a_job_is_pending_then_in_progress_then_completed_with_its_picture(tmp_path):
    async def story(api):
        run = await queued(api, extra_data=EDITED)
        _, answer = await api.ask("GET", "/api/jobs?status=in_progress,pending&limit=200&offset=0")
        waiting = answer["jobs"][0]
        assert answer["pagination"] == {"offset": 0, "limit": 200, "total": 1, "has_more": False}
        assert waiting.pop("create_time") > 1_600_000_000_000
        assert waiting == {
            "id": run, "status": "pending", "priority": 0, "outputs_count": 0, "previewable_outputs_count": 0,
            "workflow_id": "a-workflow",
        }  # fmt: skip
        await api.service.runs.lease("test")
        assert await listed(api) == [(run, "in_progress")]
        await api.service.runs.give_back(run, is_death=False)
        await api.carry()
        _, answer = await api.ask("GET", "/api/jobs?status=completed,failed,cancelled&limit=64&offset=0")
        done = answer["jobs"][0]
        assert done["status"] == "completed"
        assert done["create_time"] <= done["execution_start_time"] <= done["execution_end_time"]
        assert (done["outputs_count"], done["previewable_outputs_count"]) == (1, 1)
        assert done["preview_output"] == {
            "filename": f"{run}.png", "subfolder": "", "type": "output", "nodeId": "9", "mediaType": "images",
        }  # fmt: skip
        assert await listed(api, "status=pending,in_progress") == []

    tell(tmp_path, story)


def test_one_job_is_told_with_its_workflow_and_all_it_made(tmp_path):
    async def story(api):
        run = await queued(api, extra_data=EDITED)
        _, waiting = await api.ask("GET", f"/api/jobs/{run}")
        assert waiting["workflow"]["prompt"] == GRAPH
        assert waiting["workflow"]["extra_data"]["extra_pnginfo"] == EDITED["extra_pnginfo"]
        assert "outputs" not in waiting
        await api.carry()
        _, done = await api.ask("GET", f"/api/jobs/{run}")
        assert [file["filename"] for file in done["outputs"]["9"]["images"]] == [f"{run}.png"]
        assert done["execution_status"]["status_str"] == "success"
        assert done["execution_status"]["messages"][-1][0] == "execution_success"
        status, answer = await api.ask("GET", "/api/jobs/none")
        assert (status, answer) == (404, {"error": "there is no job 'none'"})

    tell(tmp_path, story)


def test_a_failed_job_tells_of_what(tmp_path):
    async def story(api):
        await queued(api)
        await api.carry("error", {"node": "1", "message": "no more memory", "traceback": "ValueError: x"})
        _, answer = await api.ask("GET", "/api/jobs?status=failed")
        error = answer["jobs"][0]["execution_error"]
        assert (error["node_id"], error["node_type"]) == ("1", "EmptyImage")
        assert (error["exception_message"], error["exception_type"]) == ("no more memory", "ValueError")

    tell(tmp_path, story)


def test_jobs_come_newest_first_in_pages_of_a_workflow_and_by_duration(tmp_path):
    async def story(api):
        runs = [await queued(api, extra_data=EDITED if number % 2 else {}) for number in range(4)]
        newest = [(run, "pending") for run in reversed(runs)]
        assert await listed(api) == newest
        assert await listed(api, "sort_order=asc") == newest[::-1]
        assert await listed(api, "limit=2&offset=1") == newest[1:3]
        assert await listed(api, "workflow_id=a-workflow") == newest[::2]
        _, answer = await api.ask("GET", "/jobs?limit=3")
        assert answer["pagination"] == {"offset": 0, "limit": 3, "total": 4, "has_more": True}
        await api.carry()
        await api.service.store.write(lambda database: database.execute("update runs set started = 1 where started"))
        assert (await listed(api, "sort_by=execution_duration"))[0] == (runs[0], "completed")

    tell(tmp_path, story)


def test_extra_data_of_any_shape_does_not_break_the_list(tmp_path):
    async def story(api):
        for extra in (
            {"extra_pnginfo": 7},
            {"extra_pnginfo": {"workflow": [1]}},
            {"extra_pnginfo": {"workflow": {"id": 3}}},
        ):
            await queued(api, extra_data=extra)
        _, answer = await api.ask("GET", "/api/jobs")
        assert [job.get("workflow_id") for job in answer["jobs"]] == ["3", None, None]

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("status=done", "'done' is unknown"), ("sort_by=name", "sort_by"), ("sort_order=up", "sort_order"),
        ("limit=0", "expected 1 or more"), ("limit=x", "no whole number"), ("offset=1e3", "no whole number"),
        (f"limit={'9' * 30}", "too long"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_is_refused_in_words(tmp_path, query, word):
    async def story(api):
        status, answer = await api.ask("GET", f"/api/jobs?{query}")
        assert status == 400 and word in answer["error"]

    tell(tmp_path, story)


def test_cancelling_ends_what_waits_and_nothing_that_is_over(tmp_path):
    async def story(api):
        first, second, third = [await queued(api) for _ in range(3)]
        assert await api.carry() == first
        assert await api.ask("POST", f"/api/jobs/{first}/cancel") == (200, {"cancelled": False})
        assert await api.ask("POST", f"/api/jobs/{second}/cancel") == (200, {"cancelled": True})
        assert await api.ask("POST", "/api/jobs/cancel", json={"job_ids": [third, "none"]}) == (
            200,
            {"cancelled": True},
        )
        assert await api.ask("POST", "/api/jobs/cancel", json={"job_ids": [third]}) == (200, {"cancelled": False})
        assert await listed(api) == [(third, "cancelled"), (second, "cancelled"), (first, "completed")]
        assert (await api.ask("GET", "/queue"))[1] == {"queue_running": [], "queue_pending": []}

    tell(tmp_path, story)


def test_a_job_that_runs_is_noted_to_stop(tmp_path):
    async def story(api):
        run = await queued(api)
        await api.service.runs.lease("test")
        assert await api.ask("POST", f"/jobs/{run}/cancel") == (200, {"cancelled": True})
        assert await api.service.runs.give_back_all() == 0  # after a restart it is not begun again
        assert await listed(api) == [(run, "cancelled")]

    tell(tmp_path, story)


def test_a_token_without_admin_cancels_only_its_own_jobs(tmp_path):
    async def story(api):
        mine, other = [
            {"Authorization": f"Bearer {await api.service.tokens.create(name, ['run'])}"} for name in ("me", "you")
        ]
        _, answer = await api.ask("POST", "/prompt", json={"prompt": GRAPH}, headers=other)
        path = f"/api/jobs/{answer['prompt_id']}/cancel"
        assert await api.ask("POST", path, headers=mine) == (200, {"cancelled": False})
        assert await api.ask("POST", path, headers=other) == (200, {"cancelled": True})

    tell(tmp_path, story, wants_token=True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"job_ids": 1}', b'{"job_ids": [{}]}'])
def test_a_list_of_jobs_that_is_none_is_refused_in_words(tmp_path, body):
    async def story(api):
        status, answer = await api.ask("POST", "/api/jobs/cancel", data=body)
        assert status == 400 and isinstance(answer["error"], str)

    tell(tmp_path, story)


def test_what_is_saved_stands_for_a_job_before_what_is_shown_and_pictures_before_texts():
    shown, text = {**FILE, "type": "temp"}, {**FILE, "filename": "a.txt"}
    outputs = {"1": {"text": ["hello"], "files": [text]}, "2": {"images": [shown]}, "3": {"images": [FILE]}}
    assert summary(outputs) == {
        "outputs_count": 3, "previewable_outputs_count": 3,
        "preview_output": {**FILE, "nodeId": "3", "mediaType": "images"},
    }  # fmt: skip
    del outputs["3"]
    assert summary(outputs)["preview_output"]["nodeId"] == "2"
    del outputs["2"]
    assert summary(outputs)["preview_output"]["filename"] == "a.txt"


def test_a_long_text_is_cut_and_flags_and_unknown_files_are_no_pictures():
    found = summary({"1": {"text": ["x" * 2000]}})
    assert found["outputs_count"] == 0
    assert found["preview_output"] == {"content": "x" * 1024, "truncated": True, "nodeId": "1", "mediaType": "text"}
    latent = {"1": {"files": [{**FILE, "filename": "a.latent"}], "animated": [True]}}
    assert summary(latent) == {"outputs_count": 1, "previewable_outputs_count": 0}
    assert summary(json.loads("{}")) == {"outputs_count": 0, "previewable_outputs_count": 0}
