"""The server itself over the API: what it is, and its tokens."""

from __future__ import annotations

import asyncio

from server.workers import WorkerState
from tests.server.v1.serving import served


def test_the_server_tells_its_version_and_its_workers(tmp_path):
    async def story():
        async with served(tmp_path, max_upload=1234) as api:
            api.service.dispatcher._states["cpu"] = WorkerState("cpu", "cpu", "busy", "r", beat={"ram": 5})
            _, found = await api.ask("GET", "/v1/system")
            assert found["workers"] == [
                {"name": "cpu", "device": "cpu", "state": "busy", "run": "r", "deaths": 0, "memory": {"ram": 5}}
            ]
            assert (found["max_upload"], found["nodes"] > 100, found["memory"] > 1 << 20) == (1234, True, True)
            assert (await api.ask("POST", "/v1/system/free"))[1] == {"workers": 1}

    asyncio.run(story())


def test_tokens_are_made_listed_without_their_secrets_and_taken_away(tmp_path):
    async def story():
        async with served(tmp_path, wants_token=True) as api:
            admin = {"Authorization": f"Bearer {await api.service.tokens.create('root', ['admin'])}"}
            body = {"name": "ci", "scopes": ["run"], "rate": 5.5, "max_upload": 1000}
            status, made = await api.ask("POST", "/v1/tokens", json=body, headers=admin)
            assert status == 201 and made["secret"].startswith("ng_")
            _, listed = await api.ask("GET", "/v1/tokens", headers=admin)
            found = {token["name"]: token for token in listed["tokens"]}
            assert (found["ci"]["scopes"], found["ci"]["rate"], found["ci"]["max_upload"]) == (["run"], 5.5, 1000)
            assert made["secret"] not in str(listed) and found["root"]["used"] is not None
            ci = {"Authorization": f"Bearer {made['secret']}"}
            assert (await api.ask("GET", "/v1/queue", headers=ci))[0] == 200
            assert (await api.ask("GET", "/v1/tokens", headers=ci))[0] == 403
            assert (await api.ask("POST", "/v1/tokens", json=body, headers=admin))[0] == 409
            for bad in ({"name": "a b"}, {"scopes": []}, {"scopes": ["root"]}, {"rate": 0}, {"max_upload": 0}):
                assert (await api.ask("POST", "/v1/tokens", json={**body, "name": "n", **bad}, headers=admin))[0] == 422
            assert (await api.ask("DELETE", "/v1/tokens/ci", headers=admin))[0] == 204
            assert (await api.ask("GET", "/v1/queue", headers=ci))[0] == 401
            assert (await api.ask("DELETE", "/v1/tokens/ci", headers=admin))[0] == 404

    asyncio.run(story())


def test_a_caller_is_told_who_it_is_and_what_it_may_do(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            assert (await api.ask("GET", "/v1/me"))[1] == {"name": "", "scope": "admin", "needs_token": False}
        async with served(tmp_path, wants_token=True) as api:
            token = {"Authorization": f"Bearer {await api.service.tokens.create('ann', ['run', 'edit'])}"}
            _, found = await api.ask("GET", "/v1/me", headers=token)
            assert found == {"name": "ann", "scope": "edit", "needs_token": True}

    asyncio.run(story())
