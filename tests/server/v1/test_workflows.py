"""The library: nobody's save is lost, and drafts may have problems."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.v1.serving import DOCUMENT, GRAPH, served

PLACE = "/v1/workflows/mine%2Fplain"


def test_a_workflow_is_saved_read_changed_and_deleted(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            status, headers, saved = await api.whole("PUT", PLACE, json=DOCUMENT)
            assert (status, saved["valid"], saved["name"], headers["Location"]) == (201, True, "mine/plain", PLACE)
            assert (tmp_path / "workflows/mine/plain.json").is_file()
            status, headers, found = await api.whole("GET", PLACE)
            assert (status, found["nodes"], headers["ETag"]) == (200, GRAPH, saved["etag"])
            assert (await api.ask("GET", PLACE, headers={"If-None-Match": saved["etag"]}))[0] == 304
            _, listed = await api.ask("GET", "/v1/workflows")
            own = {entry["name"]: entry["is_own"] for entry in listed["workflows"]}
            assert own["mine/plain"] is True and own["text_to_image"] is False
            assert PLACE in {entry["url"] for entry in listed["workflows"]}
            changed = {**DOCUMENT, "doc": "Changed."}
            status, again = await api.ask("PUT", PLACE, json=changed, headers={"If-Match": "W/" + saved["etag"]})
            assert status == 200 and again["etag"] != saved["etag"]
            assert (await api.ask("DELETE", PLACE, headers={"If-Match": saved["etag"]}))[0] == 412
            assert (await api.ask("DELETE", PLACE, headers={"If-Match": "W/" + again["etag"]}))[0] == 204
            assert (await api.ask("GET", PLACE))[0] == 404
            assert (await api.ask("DELETE", PLACE))[0] == 404

    asyncio.run(story())


def test_a_save_that_would_lose_anothers_is_refused(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            _, saved = await api.ask("PUT", PLACE, json=DOCUMENT, headers={"If-None-Match": "*"})
            mine, other = {**DOCUMENT, "doc": "mine"}, {**DOCUMENT, "doc": "other"}
            match = {"If-Match": saved["etag"]}
            both = [api.ask("PUT", PLACE, json=document, headers=match) for document in (mine, other)]
            assert sorted(status for status, _ in await asyncio.gather(*both)) == [200, 412]
            assert (await api.ask("PUT", PLACE, json=mine))[0] == 428
            assert (await api.ask("PUT", PLACE, json=mine, headers={"If-None-Match": "*"}))[0] == 412
            assert (await api.ask("PUT", PLACE, json=mine, headers={"If-Match": "*"}))[0] == 200
            assert (await api.ask("PUT", f"{PLACE}2", json=mine, headers=match))[0] == 412
            assert (await api.ask("PUT", PLACE, json=mine, headers={"If-Match": "mine"}))[0] == 422

    asyncio.run(story())


def test_a_draft_with_problems_is_saved_and_they_are_told(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            draft = {"1": {"class_type": "SaveImage", "inputs": {}}}
            status, saved = await api.ask("PUT", PLACE, json=draft)
            assert (status, saved["valid"]) == (201, False)
            assert saved["problems"][0]["node"] == "1" and saved["problems"][0]["input"] == "images"
            assert (await api.ask("GET", PLACE))[1]["nodes"] == draft
            assert (await api.ask("PUT", f"{PLACE}2", json={"nodes": 3, "nodegraph": 1}))[0] == 422
            assert not (tmp_path / "workflows/mine/plain2.json").exists()

    asyncio.run(story())


@pytest.mark.parametrize(
    "name",
    [
        "..%2Fx",
        "a%2F..%2F..%2Fx",
        "%2Fetc%2Fpasswd",
        ".x",
        "a%5Cb",
        "a%00b",
        "C:x",
        "con",
        "x" * 201,
        "%F0%9F%98%80" * 99,
    ],
)
def test_names_cannot_leave_the_library(tmp_path, name):
    async def story():
        async with served(tmp_path) as api:
            for method in ("PUT", "GET", "DELETE"):
                status, _ = await api.ask(method, f"/v1/workflows/{name}", json=DOCUMENT if method == "PUT" else None)
                assert status in (404, 422), method
            assert [path.name for path in tmp_path.rglob("*.json")] == []

    asyncio.run(story())


def test_a_workflow_that_ships_is_shadowed_by_an_own_one_and_cannot_be_deleted(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            place = "/v1/workflows/text_to_image"
            assert (await api.ask("DELETE", place))[0] == 409
            assert (await api.ask("PUT", place, json=DOCUMENT))[0] == 428
            assert (await api.ask("PUT", place, json=DOCUMENT, headers={"If-Match": "*"}))[0] == 200
            assert (await api.ask("GET", place))[1]["name"] == "plain"
            assert (await api.ask("DELETE", place))[0] == 204
            assert (await api.ask("GET", place))[1]["name"] == "text_to_image"

    asyncio.run(story())


def test_a_schema_tells_what_goes_in_and_what_comes_out(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", PLACE, json=DOCUMENT)
            _, found = await api.ask("GET", f"{PLACE}/schema")
            width = found["inputs"]["properties"]["width"]
            assert (width["type"], width["default"], width["description"]) == ("integer", 16, "in pixels")
            assert width["minimum"] >= 1 and found["inputs"]["additionalProperties"] is False
            assert found["outputs"]["properties"]["image"]["x-port"] == "IMAGE"
            assert (found["name"], found["doc"]) == ("mine/plain", "One colour.")
            assert (await api.ask("GET", "/v1/workflows/none/schema"))[0] == 404

    asyncio.run(story())


def test_a_check_tells_every_problem_and_runs_nothing(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            assert (await api.ask("POST", "/v1/check", json={"workflow": "text_to_image"}))[1]["valid"] is True
            bad = {
                "1": {"class_type": "EmptyImage", "inputs": {"width": 0}},
                "2": {"class_type": "SaveImge", "inputs": {}},
            }
            _, found = await api.ask("POST", "/v1/check", json={"workflow": bad})
            assert {(fault["node"], fault["kind"]) for fault in found["problems"]} == {
                ("1", "invalid"), ("2", "missing_node"),
            }  # fmt: skip
            _, found = await api.ask("POST", "/v1/check", json={"workflow": {"1": 3}})
            assert (found["valid"], found["problems"][0]["node"]) == (False, "1")
            assert (await api.ask("POST", "/v1/check", json={"workflow": "none"}))[0] == 404
            assert (await api.ask("GET", "/v1/runs"))[1]["total"] == 0

    asyncio.run(story())
