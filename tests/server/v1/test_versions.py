"""Versions: no save and no delete loses what was there."""

from __future__ import annotations

import asyncio

from server.v1 import versions
from tests.server.v1.serving import DOCUMENT, GRAPH, served

PLACE = "/v1/workflows/mine%2Fplain"
ANY = {"If-Match": "*"}


async def docs(api):
    """What the versions say of themselves, the newest first."""
    _, found = await api.ask("GET", f"{PLACE}/versions")
    whole = [await api.whole("GET", f"{PLACE}/versions/{each['id']}") for each in found["versions"]]
    assert [each["etag"] for each in found["versions"]] == [headers["ETag"] for _, headers, _ in whole]
    return [document["doc"] for _, _, document in whole]


def test_every_save_keeps_what_was_there_and_a_delete_too(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            assert await docs(api) == []
            for doc in "abc":
                await api.ask("PUT", PLACE, json={**DOCUMENT, "doc": doc}, headers={} if doc == "a" else ANY)
            assert await docs(api) == ["b", "a"]
            _, found = await api.ask("GET", f"{PLACE}/versions")
            _, document = await api.ask("GET", f"{PLACE}/versions/{found['versions'][0]['id']}")
            assert document["nodes"] == GRAPH and found["versions"][0]["nodes"] == 2
            assert found["versions"][0]["bytes"] > 100 and found["versions"][0]["saved"]
            assert (await api.ask("DELETE", PLACE))[0] == 204
            assert await docs(api) == ["c", "b", "a"]
            await api.ask("PUT", PLACE, json={**DOCUMENT, "doc": "d"})
            await api.ask("PUT", PLACE, json={**DOCUMENT, "doc": "e"}, headers=ANY)
            assert await docs(api) == ["d", "c", "b", "a"]
            assert (await api.ask("GET", f"{PLACE}/versions/999"))[0] == 404
            other = f"/v1/workflows/other/versions/{found['versions'][0]['id']}"
            assert (await api.ask("GET", other))[0] == 404

    asyncio.run(story())


def test_a_save_that_is_refused_and_one_that_changes_nothing_add_no_version(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", PLACE, json=DOCUMENT)
            assert (await api.ask("PUT", PLACE, json=GRAPH, headers={"If-Match": '"old"'}))[0] == 412
            assert await docs(api) == []
            for _ in range(3):
                await api.ask("PUT", PLACE, json=DOCUMENT, headers=ANY)
            assert await docs(api) == ["One colour."]

    asyncio.run(story())


def test_what_was_changed_by_hand_is_kept_too_and_the_oldest_versions_go(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "MOST", 2)

    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", PLACE, json={**DOCUMENT, "doc": "a"})
            path = tmp_path / "workflows/mine/plain.json"
            kept = []
            path.write_text(path.read_text().replace('"a"', '"by hand"'))
            for doc in "bcd":
                assert (await api.ask("PUT", PLACE, json={**DOCUMENT, "doc": doc}, headers=ANY))[0] == 200
                kept.append(await docs(api))
            assert kept[:2] == [["by hand"], ["b", "by hand"]]
            assert await docs(api) == ["c", "b"]
            await api.ask("DELETE", PLACE)
            assert await docs(api) == ["d", "c"]

    asyncio.run(story())


def test_saving_over_one_that_ships_adds_no_version(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/text_to_image", json=DOCUMENT, headers=ANY)
            assert (await api.ask("GET", "/v1/workflows/text_to_image/versions"))[1] == {"versions": []}

    asyncio.run(story())
