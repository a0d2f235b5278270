"""Runs over the API: from submission to being forgotten."""

from __future__ import annotations

import asyncio

from tests.server.v1.serving import DOCUMENT, GRAPH, served


def test_a_run_goes_from_the_queue_to_the_history(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            status, headers, ticket = await api.whole(
                "POST", "/v1/runs", json={"workflow": DOCUMENT, "inputs": {"width": 32}, "client": "me"}
            )
            run = ticket["id"]
            assert (status, headers["Location"], ticket["is_new"]) == (202, f"/v1/runs/{run}", True)
            _, found = await api.ask("GET", f"/v1/runs/{run}")
            assert (found["status"], found["position"], found["workflow"], found["client"]) == (
                "queued", 0, "plain", "me",
            )  # fmt: skip
            assert (await api.ask("GET", f"/v1/runs/{run}/wait?timeout=0"))[0] == 202
            waiting = asyncio.create_task(api.ask("GET", f"/v1/runs/{run}/wait"))
            assert await api.carry() == run
            status, found = await waiting
            assert (status, found["status"], found["attempts"]) == (200, "success", 1)
            assert found["nodes"][0] | {"start": 0} == {
                "node": "1", "class_type": "EmptyImage", "state": "running", "why": "new", "tier": None, "start": 0,
                "seconds": 0.0, "bytes": 0, "notes": [],
            }  # fmt: skip
            url = f"/v1/files/output/{run}.png"
            assert [file["url"] for file in found["files"]] == [url]
            assert [file["url"] for file in found["result"]["image"]["files"]] == [url]
            assert found["finished"] > found["started"] > found["created"]
            _, document = await api.ask("GET", f"/v1/runs/{run}/workflow")
            assert document["nodes"]["1"]["inputs"]["width"] == 32
            _, trace = await api.ask("GET", f"/v1/runs/{run}/trace")
            assert {"waiting", "running", "EmptyImage (1)"} <= {event["name"] for event in trace["traceEvents"]}

    asyncio.run(story())


def test_a_bare_graph_and_a_name_can_be_submitted_and_what_is_unsound_is_not_queued(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            assert (await api.ask("POST", "/v1/runs", json={"workflow": GRAPH}))[0] == 202
            assert (await api.ask("POST", "/v1/runs", json={"workflow": "text_to_image"}))[0] == 202
            bad = {**GRAPH, "1": {"class_type": "EmptyImage", "inputs": {"width": -5, "height": "x"}}}
            status, problem = await api.ask("POST", "/v1/runs", json={"workflow": bad})
            assert (status, problem["type"]) == (422, "/v1/docs#problem-workflow")
            assert {(fault["node"], fault["input"]) for fault in problem["problems"]} == {
                ("1", "width"),
                ("1", "height"),
            }
            status, problem = await api.ask("POST", "/v1/runs", json={"workflow": DOCUMENT, "inputs": {"widht": 1}})
            assert status == 422 and "did you mean 'width'?" in problem["detail"]
            assert (await api.ask("POST", "/v1/runs", json={"workflow": "no_such"}))[0] == 404
            gone = {"1": {"class_type": "EmptyImag", "inputs": {}}}
            status, problem = await api.ask("POST", "/v1/runs", json={"workflow": gone})
            assert status == 422 and problem["problems"][0]["kind"] == "missing_node"
            assert (await api.ask("GET", "/v1/queue"))[1]["counts"]["queued"] == 2

    asyncio.run(story())


def test_an_idempotency_key_gives_one_run_for_one_request(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            key = {"Idempotency-Key": "k1"}
            body = {"workflow": GRAPH}
            first = (await api.ask("POST", "/v1/runs", json=body, headers=key))[1]
            again = (await api.ask("POST", "/v1/runs", json=body, headers=key))[1]
            assert again == {**first, "is_new": False}
            status, problem = await api.ask("POST", "/v1/runs", json={**body, "priority": 1}, headers=key)
            assert (status, problem["type"]) == (409, "/v1/docs#problem-key-reused")
            assert (await api.ask("GET", "/v1/runs"))[1]["total"] == 1
            assert (await api.ask("POST", "/v1/runs", json=body, headers={"Idempotency-Key": "a b"}))[0] == 422

    asyncio.run(story())


def test_runs_are_listed_by_page_and_found_by_words(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            runs = [await api.submit(client=f"c{number}") for number in range(3)]
            _, page = await api.ask("GET", "/v1/runs?limit=2")
            assert [run["id"] for run in page["runs"]] == runs[:0:-1] and page["total"] == 3
            _, rest = await api.ask("GET", f"/v1/runs?limit=2&cursor={page['next']}")
            assert [run["id"] for run in rest["runs"]] == runs[:1] and rest["next"] is None
            for query, total in [("search=PLAIN", 3), ("search=nonsense", 0), ("client=c1", 1), ("workflow=plain", 3),
                                 ("status=success", 0), ("status=success&status=queued", 3)]:  # fmt: skip
                assert (await api.ask("GET", f"/v1/runs?{query}"))[1]["total"] == total, query
            assert (await api.ask("GET", "/v1/runs?status=done"))[0] == 422

    asyncio.run(story())


def test_waiting_runs_are_moved_paused_and_cancelled(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            first, second, third = [await api.submit() for _ in range(3)]
            assert (await api.ask("PATCH", f"/v1/runs/{third}", json={"position": 0}))[1]["position"] == 0
            _, moved = await api.ask("PATCH", f"/v1/runs/{second}", json={"priority": 5})
            assert (moved["priority"], moved["position"]) == (5, 0)
            assert (await api.ask("PATCH", f"/v1/runs/{second}", json={}))[0] == 422
            assert (await api.ask("POST", "/v1/queue/pause"))[1]["paused"] is True
            assert (await api.ask("POST", "/v1/queue/resume"))[1]["paused"] is False
            assert (await api.ask("POST", f"/v1/runs/{first}/cancel"))[1]["status"] == "cancelled"
            status, problem = await api.ask("PATCH", f"/v1/runs/{first}", json={"priority": 1})
            assert (status, problem["run"]) == (409, first)
            assert [await api.carry(), await api.carry()] == [second, third]

    asyncio.run(story())


def test_runs_are_listed_in_the_order_of_their_turn(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            first, second, third, fourth = [await api.submit() for _ in range(4)]
            await api.service.runs.lease("test")
            await api.ask("PATCH", f"/v1/runs/{fourth}", json={"priority": 5})
            await api.ask("PATCH", f"/v1/runs/{third}", json={"position": 0})
            query = "/v1/runs?order=turn&status=queued&status=running&limit=3"
            _, page = await api.ask("GET", query)
            assert ([run["id"] for run in page["runs"]], page["total"]) == ([first, fourth, third], 4)
            _, rest = await api.ask("GET", f"{query}&cursor={page['next']}")
            assert ([run["id"] for run in rest["runs"]], rest["next"]) == ([second], None)
            assert (await api.ask("GET", "/v1/runs?order=oldest"))[0] == 422

    asyncio.run(story())


def test_a_failed_run_tells_why_and_is_run_again_as_a_new_one(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            run = await api.submit()
            assert (await api.ask("POST", f"/v1/runs/{run}/retry"))[0] == 409
            await api.carry("error", {"message": "too hot", "node": "1", "class_type": "EmptyImage"})
            _, found = await api.ask("GET", f"/v1/runs/{run}")
            assert (found["status"], found["error"]["message"], found["error"]["node"]) == ("error", "too hot", "1")
            status, ticket = await api.ask("POST", f"/v1/runs/{run}/retry")
            assert status == 202 and ticket["id"] != run
            assert (await api.ask("GET", f"/v1/runs/{ticket['id']}"))[1]["retry_of"] == run
            assert await api.carry() == ticket["id"]

    asyncio.run(story())


def test_finished_runs_are_forgotten_with_or_without_their_files(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            runs = [await api.submit() for _ in range(4)]
            assert (await api.ask("DELETE", f"/v1/runs/{runs[0]}"))[0] == 409
            for _ in range(2):
                await api.carry()
            await api.carry("error", {"message": "no"})
            output = api.service.desk.folders.output
            assert (await api.ask("DELETE", f"/v1/runs/{runs[0]}"))[1] == {"runs": 1, "files": 0}
            assert (output / f"{runs[0]}.png").is_file()
            assert (await api.ask("DELETE", f"/v1/runs/{runs[1]}?files=true"))[1] == {"runs": 1, "files": 1}
            assert not (output / f"{runs[1]}.png").exists()
            assert (await api.ask("DELETE", "/v1/runs?status=success"))[1] == {"runs": 0, "files": 0}
            assert (await api.ask("DELETE", "/v1/runs"))[1] == {"runs": 1, "files": 0}
            assert [run["id"] for run in (await api.ask("GET", "/v1/runs"))[1]["runs"]] == [runs[3]]
            for method, path in [
                ("GET", ""),
                ("DELETE", ""),
                ("POST", "/cancel"),
                ("GET", "/wait"),
                ("GET", "/events"),
            ]:
                assert (await api.ask(method, f"/v1/runs/{runs[0]}{path}"))[0] == 404, path

    asyncio.run(story())


def test_a_file_that_another_run_has_stays(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            first, second = await api.submit(), await api.submit()
            await api.carry()
            await api.carry()
            await api.service.store.write(
                lambda database: database.execute("update files set filename = ?", (f"{first}.png",))
            )
            assert (await api.ask("DELETE", f"/v1/runs/{first}?files=true"))[1] == {"runs": 1, "files": 0}
            assert (await api.ask("DELETE", f"/v1/runs/{second}?files=true"))[1] == {"runs": 1, "files": 1}

    asyncio.run(story())


def test_what_a_token_may_not_is_refused(tmp_path):
    async def story():
        async with served(tmp_path, wants_token=True) as api:
            tokens = api.service.tokens
            one, other, editor = [
                {"Authorization": f"Bearer {await tokens.create(name, [scope])}"}
                for name, scope in [("one", "run"), ("other", "run"), ("editor", "edit")]
            ]
            assert (await api.ask("GET", "/v1/runs"))[0] == 401
            _, ticket = await api.ask("POST", "/v1/runs", json={"workflow": GRAPH}, headers=one)
            run = f"/v1/runs/{ticket['id']}"
            assert (await api.ask("GET", run, headers=other))[1]["owner"] == "one"
            status, problem = await api.ask("POST", f"{run}/cancel", headers=other)
            assert (status, problem["type"]) == (403, "/v1/docs#problem-forbidden")
            assert (await api.ask("PATCH", run, json={"priority": 9}, headers=one))[0] == 403
            assert (await api.ask("DELETE", "/v1/runs", headers=editor))[0] == 403
            assert (await api.ask("POST", f"{run}/cancel", headers=editor))[1]["status"] == "cancelled"

    asyncio.run(story())
