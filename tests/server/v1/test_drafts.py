"""Drafts: each caller's own, and never written over by who has not seen them."""

from __future__ import annotations

import asyncio
import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from server.problems import Refusal
from server.store import migrate
from server.v1 import drafts
from server.v1.conditions import SaveHeaders
from tests.server.v1.serving import DOCUMENT, served

NEW = {"If-None-Match": "*"}


def body(**changes):
    return {"name": "A cube", "document": DOCUMENT, **changes}


def test_a_draft_is_saved_read_changed_listed_and_forgotten(tmp_path):
    async def story():
        async with served(tmp_path) as api, api.client.ws_connect("/v1/socket") as ws:
            whole = body(workflow="sub/cube", base='"abc"')
            status, headers, saved = await api.whole("PUT", "/v1/drafts/tab-1", json=whole, headers=NEW)
            first = saved["revision"]
            assert (status, saved["id"], headers["ETag"], headers["Location"]) == (
                201, "tab-1", f'"{first}"', "/v1/drafts/tab-1",
            )  # fmt: skip
            status, headers, found = await api.whole("GET", "/v1/drafts/tab-1")
            assert found.pop("modified") and headers["ETag"] == f'"{first}"'
            assert found == {"id": "tab-1", "revision": first, "nodes": 2, **whole}
            changed = body(document={"nodes": {"ä": 1}, "ui": {"x": [0.5, None]}}, name="")
            status, saved = await api.ask("PUT", "/v1/drafts/tab-1", json=changed, headers={"If-Match": f'W/"{first}"'})
            assert status == 200 and saved["revision"] > first
            _, found = await api.ask("GET", "/v1/drafts/tab-1")
            assert (found["document"], found["workflow"], found["base"], found["nodes"]) == (
                changed["document"], None, None, 1,
            )  # fmt: skip
            await api.ask("PUT", "/v1/drafts/tab-2", json=body(), headers=NEW)
            _, listed = await api.ask("GET", "/v1/drafts")
            assert [draft["id"] for draft in listed["drafts"]] == ["tab-2", "tab-1"]
            assert "document" not in listed["drafts"][0]
            assert (await api.ask("DELETE", "/v1/drafts/tab-1"))[0] == 204
            assert (await api.ask("DELETE", "/v1/drafts/tab-1"))[0] == 404
            assert (await api.ask("GET", "/v1/drafts/tab-1"))[0] == 404
            told = [await ws.receive_json() for _ in range(4)]
            assert [(event["type"], event["id"], event["revision"]) for event in told] == [
                ("DraftsChanged", "tab-1", first), ("DraftsChanged", "tab-1", saved["revision"]),
                ("DraftsChanged", "tab-2", saved["revision"] + 1), ("DraftsChanged", "tab-1", None),
            ]  # fmt: skip

    asyncio.run(story())


def test_a_draft_that_another_tab_changed_is_not_replaced(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            _, saved = await api.ask("PUT", "/v1/drafts/a", json=body(), headers=NEW)
            old = {"If-Match": f'"{saved["revision"]}"'}
            assert (await api.ask("PUT", "/v1/drafts/a", json=body(name="other"), headers=old))[0] == 200
            status, headers, problem = await api.whole("PUT", "/v1/drafts/a", json=body(), headers=old)
            assert status == 412 and "changed meanwhile" in problem["detail"]
            assert headers["ETag"] == f'"{saved["revision"] + 1}"'
            assert (await api.ask("PUT", "/v1/drafts/a", json=body(), headers=NEW))[0] == 412
            assert (await api.ask("PUT", "/v1/drafts/a", json=body()))[0] == 428
            assert (await api.ask("PUT", "/v1/drafts/b", json=body(), headers=old))[0] == 412
            assert (await api.ask("GET", "/v1/drafts/a"))[1]["name"] == "other"

    asyncio.run(story())


def test_two_tabs_that_add_to_one_draft_lose_nothing(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/drafts/a", json=body(document={"nodes": {}}), headers=NEW)

            async def add(tab):
                for number in range(8):
                    status = 412
                    while status == 412:
                        _, headers, found = await api.whole("GET", "/v1/drafts/a")
                        nodes = {**found["document"]["nodes"], f"{tab}{number}": {}}
                        status, _ = await api.ask(
                            "PUT", "/v1/drafts/a", json=body(document={"nodes": nodes}),
                            headers={"If-Match": headers["ETag"]},
                        )  # fmt: skip
                    assert status == 200

            await asyncio.gather(add("x"), add("y"))
            assert (await api.ask("GET", "/v1/drafts"))[1]["drafts"][0]["nodes"] == 16

    asyncio.run(story())


@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from(["read", "save", "make", "delete"])), max_size=30))
def test_a_save_replaces_only_what_its_writer_has_seen_last(steps):
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(database)
        seen, there, given = {"x": None, "y": None}, None, set()
        for number, (writer, step) in enumerate(steps):
            if step == "delete":
                database.execute("delete from drafts")
                there = None
            elif step == "read":
                seen[writer] = None if there is None else there[0]
            else:
                is_make = step == "make" or seen[writer] is None
                headers = {"If-None-Match": "*"} if is_make else {"If-Match": f'"{seen[writer]}"'}
                may = there is None if is_make else there is not None and there[0] == seen[writer]
                row = ("me", "a", "", None, None, 0, 0.0, f"{writer}{number}")
                try:
                    revision, is_new = drafts._write(database, row, SaveHeaders.model_validate(headers))
                    assert may and is_new == (there is None) and revision not in given
                    given.add(revision)
                    there, seen[writer] = (revision, row[-1]), revision
                except Refusal as refusal:
                    assert not may and refusal.sort == "stale"
            rows = [tuple(row) for row in database.execute("select revision, document from drafts")]
            assert rows == ([] if there is None else [there])
    finally:
        database.close()


def test_nobody_sees_another_callers_drafts(tmp_path):
    async def story():
        async with served(tmp_path, wants_token=True) as api:
            ann = {"Authorization": f"Bearer {await api.service.tokens.create('ann', ['run'])}"}
            bob = {"Authorization": f"Bearer {await api.service.tokens.create('bob', ['run'])}"}
            assert (await api.ask("PUT", "/v1/drafts/a", json=body(name="ann's"), headers=ann | NEW))[0] == 201
            assert (await api.ask("GET", "/v1/drafts", headers=bob))[1] == {"drafts": []}
            for method in ("GET", "DELETE"):
                assert (await api.ask(method, "/v1/drafts/a", headers=bob))[0] == 404
            assert (await api.ask("PUT", "/v1/drafts/a", json=body(name="bob's"), headers=bob | NEW))[0] == 201
            assert (await api.ask("GET", "/v1/drafts/a", headers=ann))[1]["name"] == "ann's"

    asyncio.run(story())


def test_the_oldest_drafts_of_a_caller_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "MOST", 2)

    async def story():
        async with served(tmp_path) as api:
            for name in ("a", "b", "c"):
                assert (await api.ask("PUT", f"/v1/drafts/{name}", json=body(), headers=NEW))[0] == 201
            _, listed = await api.ask("GET", "/v1/drafts")
            assert [draft["id"] for draft in listed["drafts"]] == ["c", "b"]

    asyncio.run(story())


def test_what_cannot_be_a_draft_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "LARGEST", 4000)

    async def story():
        async with served(tmp_path) as api:
            for wrong in ({"document": []}, {"name": "a\nb"}, {"workflow": "../x"}, {"base": "abc"}, {"more": 1}):
                assert (await api.ask("PUT", "/v1/drafts/a", json=body(**wrong), headers=NEW))[0] == 422, wrong
            assert (await api.ask("PUT", "/v1/drafts/a.b", json=body(), headers=NEW))[0] == 422
            status, problem = await api.ask("PUT", "/v1/drafts/a", json=body(document={"a": "x" * 4000}), headers=NEW)
            assert status == 413 and "4000 bytes" in problem["detail"]

    asyncio.run(story())
