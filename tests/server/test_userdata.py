"""What ComfyUI's frontend keeps: settings that do not lose one another, files that never leave the user's folder."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from server import userdata
from server.files import Draft
from tests.server.test_comfy_files import LIMIT, Client, app_of, put
from tests.server.test_files import NAMES

USER = "user/default"


def serve(home: Path, talk: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with TestClient(TestServer(app_of(home, userdata.routes()))) as client:
            await talk(client)

    asyncio.run(run())


def at(name: str, rest: str = "") -> URL:
    """The address of a file, its name encoded as the frontend does."""
    return URL(f"/api/userdata/{quote(name, safe='')}{rest}", encoded=True)


def below(home: Path) -> list[str]:
    root = home / USER
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


async def told(client: Client, path: str | URL, method: str = "get", **options: Any) -> tuple[int, Any]:
    async with client.request(method, path, **options) as answer:
        is_json = answer.status == 200 and answer.content_type == "application/json"
        return answer.status, await answer.json() if is_json else await answer.text()


def test_a_fresh_server_answers_all_the_frontend_asks_for_at_its_start(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        assert await told(client, "/api/users") == (200, {"storage": "server", "migrated": True})
        for path in ("/user.css", at("user.css")):
            async with client.get(path) as answer:
                assert (answer.status, answer.content_type, await answer.text()) == (200, "text/css", "")
        assert await told(client, "/templates/index.json") == (200, [])
        assert await told(client, "/templates/index_logo.json") == (200, {})
        for path in ("/i18n", "/settings", "/workflow_templates", "/global_subgraphs"):
            assert await told(client, f"/api{path}") == (200, {})
        assert await told(client, "/api/extensions") == (200, [])
        assert await told(client, "/api/global_subgraphs/x") == (200, None)
        assert (await told(client, "/api/userdata?dir=workflows&recurse=true&full_info=true"))[0] == 404
        assert (await told(client, at("comfy.templates.json")))[0] == 404
        assert await told(client, "/api/v2/userdata") == (200, [])
        status, text = await told(client, "/api/users", "post", json={"username": "b"})
        assert status == 400 and "one user" in text

    serve(tmp_path, talk)
    assert not (tmp_path / "user").exists()


def test_settings_are_merged_and_read_one_by_one(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        assert await told(client, "/api/settings", "post", json={"a": 1, "b": {"c": [None]}}) == (200, "")
        assert await told(client, "/api/settings/Comfy.ü", "post", json=False) == (200, "")
        assert await told(client, "/api/settings", "post", json={"a": 2}) == (200, "")
        assert await told(client, "/settings") == (200, {"a": 2, "b": {"c": [None]}, "Comfy.ü": False})
        assert await told(client, "/settings/Comfy.ü") == (200, False)
        assert await told(client, "/settings/none") == (200, None)

    serve(tmp_path, talk)
    assert below(tmp_path) == ["comfy.settings.json"]  # where ComfyUI has it


def test_settings_written_at_once_do_not_lose_one_another(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        async def write(number: int) -> None:
            path = "/api/settings" if number % 2 else f"/settings/s{number}"
            assert (await told(client, path, "post", json={f"s{number}": number} if number % 2 else number))[0] == 200

        await asyncio.gather(*map(write, range(60)))
        assert await told(client, "/settings") == (200, {f"s{number}": number for number in range(60)})

    serve(tmp_path, talk)
    assert below(tmp_path) == ["comfy.settings.json"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"NaN", b'{"a": Infinity}', b"\xff", b"[" * 99999])
def test_settings_that_are_none_are_refused_in_words(tmp_path: Path, body: bytes) -> None:
    async def talk(client: Client) -> None:
        status, text = await told(client, "/settings", "post", data=body)
        assert status == 400 and "send" in text

    serve(tmp_path, talk)
    assert not (tmp_path / "user").exists()


def test_a_broken_file_of_settings_is_put_aside(tmp_path: Path) -> None:
    path = put(tmp_path, f"{USER}/comfy.settings.json", b'{"a": 1')

    async def talk(client: Client) -> None:
        assert await told(client, "/settings") == (200, {})
        assert path.read_bytes() == b'{"a": 1'
        assert (await told(client, "/settings/b", "post", json=2))[0] == 200

    serve(tmp_path, talk)
    assert json.loads(path.read_text()) == {"b": 2}
    assert path.with_name("comfy.settings.json.broken").read_bytes() == b'{"a": 1'


def test_a_failing_disk_leaves_the_old_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, f"{USER}/comfy.settings.json", b'{"a": 1}')

    def fail(self: Draft) -> None:
        raise OSError(28, "No space left on device")

    async def talk(client: Client) -> None:
        monkeypatch.setattr(os, "fsync", fail)
        status, text = await told(client, "/settings/b", "post", json=2)
        assert (status, "No space left" in text) == (507, True)

    serve(tmp_path, talk)
    assert path.read_bytes() == b'{"a": 1}' and below(tmp_path) == ["comfy.settings.json"]


def test_files_are_written_read_listed_and_deleted(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        for name in ("workflows/.index.json", "workflows/ü 100%.json", "workflows/sub/b.json", "top.json"):
            assert await told(client, at(name), "post", data=name.encode()) == (200, name)
        status, described = await told(client, at("top.json", "?full_info=true"), "post", data=b"four")
        assert status == 200 and (described["path"], described["size"]) == ("top.json", 4)
        assert set(described) == {"path", "size", "modified", "created"} and described["modified"] > 1e12
        async with client.get(at("workflows/ü 100%.json")) as answer:
            assert await answer.read() == "workflows/ü 100%.json".encode()
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        lists = {
            "dir=workflows": ["ü 100%.json"],
            "dir=workflows&recurse=true": ["ü 100%.json", "sub/b.json"],
            "dir=workflows&recurse=true&split=true": [["ü 100%.json", "ü 100%.json"], ["sub/b.json", "sub", "b.json"]],
        }
        for query, expected in lists.items():
            assert await told(client, f"/userdata?{query}") == (200, expected)
        _, [first, *_] = await told(client, "/userdata?dir=workflows&recurse=true&split=true&full_info=true")
        assert first["path"] == "ü 100%.json"
        _, tree = await told(client, "/v2/userdata?path=workflows")
        assert [(entry["type"], entry["path"]) for entry in tree] == [
            ("directory", "workflows/sub"), ("file", "workflows/.index.json"), ("file", "workflows/sub/b.json"),
            ("file", "workflows/ü 100%.json"),
        ]  # fmt: skip
        assert set(tree[0]) == {"name", "path", "type"} and {"size", "modified"} < set(tree[1])
        assert await told(client, at("top.json"), "delete") == (204, "")
        assert (await told(client, at("top.json"), "delete"))[0] == 404

    serve(tmp_path, talk)
    assert below(tmp_path) == ["workflows/.index.json", "workflows/sub/b.json", "workflows/ü 100%.json"]


def test_a_taken_name_is_refused_only_when_asked(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        for data in (b"one", b"two"):
            assert (await told(client, at("a.json"), "post", data=data))[0] == 200
        assert (await told(client, at("a.json", "?overwrite=false"), "post", data=b"three"))[0] == 409

    serve(tmp_path, talk)
    assert (tmp_path / USER / "a.json").read_bytes() == b"two" and below(tmp_path) == ["a.json"]


def test_files_are_moved(tmp_path: Path) -> None:
    async def talk(client: Client) -> None:
        for name in ("a.json", "b.json"):
            await told(client, at(name), "post", data=name.encode())
        move = at("a.json", f"/move/{quote('new/a.json', safe='')}")
        assert await told(client, move, "post") == (200, "new/a.json")
        assert (await told(client, move, "post"))[0] == 404
        back = at("new/a.json", "/move/b.json")
        assert (await told(client, back.update_query(overwrite="false"), "post"))[0] == 409
        status, described = await told(client, back.update_query(full_info="true"), "post")
        assert (status, described["path"]) == (200, "b.json")
        fresh = at("b.json", "/move/c.json?overwrite=false")
        assert await told(client, fresh, "post") == (200, "c.json")
        assert await told(client, at("c.json", "/move/c.json"), "post") == (200, "c.json")

    serve(tmp_path, talk)
    assert below(tmp_path) == ["c.json"] and (tmp_path / USER / "c.json").read_bytes() == b"a.json"


def test_too_large_a_file_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    async def pieces() -> Any:
        for _ in range(20):
            yield bytes(LIMIT // 10)

    async def talk(client: Client) -> None:
        await told(client, at("a.json"), "post", data=b"old")
        assert (await told(client, at("a.json"), "post", data=bytes(LIMIT + 1)))[0] == 413
        assert (await told(client, at("a.json"), "post", data=pieces()))[0] == 413

    serve(tmp_path, talk)
    assert (tmp_path / USER / "a.json").read_bytes() == b"old" and below(tmp_path) == ["a.json"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "C:\\x", "nul", "a\nb", "x" * 300, "..", "a. "])
def test_names_that_cannot_be_are_forbidden(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"{USER}/ok.json", b"x")
    put(tmp_path, "user/x", b"secret")

    async def talk(client: Client) -> None:
        for method, address in (
            ("get", at(name)), ("post", at(name)), ("delete", at(name)), ("post", at(name, "/move/b")),
            ("post", at("ok.json", f"/move/{quote(name, safe='')}")), ("get", f"/userdata?dir={quote(name, safe='')}"),
        ):  # fmt: skip
            if name != ".." or "?" in str(address):  # a lone .. is resolved on the way
                assert (await told(client, address, method))[0] == 403, (method, address)
        assert (await told(client, f"/v2/userdata?path={quote(name, safe='')}"))[0] == 400

    serve(tmp_path, talk)
    assert below(tmp_path) == ["ok.json"] and (tmp_path / "user" / "x").read_bytes() == b"secret"


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    put(tmp_path, "secret/a.json", b"secret")
    put(tmp_path, f"{USER}/ok.json", b"x")
    (tmp_path / USER / "link").symlink_to(tmp_path / "secret")

    async def talk(client: Client) -> None:
        for method, address in (
            ("get", at("link/a.json")), ("post", at("link/b.json")), ("delete", at("link/a.json")),
            ("post", at("ok.json", "/move/link%2Fok.json")), ("get", "/userdata?dir=link"),
        ):  # fmt: skip
            assert (await told(client, address, method))[0] == 403
        assert (await told(client, "/v2/userdata?path=link"))[0] == 400

    serve(tmp_path, talk)
    assert sorted(os.listdir(tmp_path / "secret")) == ["a.json"]


@given(NAMES.filter(lambda name: name.isprintable() and name not in ("", ".", "..")), st.sampled_from(["post", "get"]))
def test_no_name_whatever_breaks_the_server_or_leaves_the_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str, method: str
) -> None:
    home = tmp_path_factory.getbasetemp() / "names"

    async def talk(client: Client) -> None:
        status, _ = await told(client, at(name), method, **({"data": b"x"} if method == "post" else {}))
        assert status in (200, 400, 403, 404, 409)

    serve(home, talk)
    outside = [path for path in home.rglob("*") if path.is_file() and not path.is_relative_to(home / USER)]
    assert outside == []


def test_the_style_of_the_user_is_the_only_thing_shown_as_such(tmp_path: Path) -> None:
    put(tmp_path, f"{USER}/user.css", b"a {}")
    put(tmp_path, f"{USER}/evil.html", b"<script>")

    async def talk(client: Client) -> None:
        for path in ("/user.css", "/api/userdata/user.css"):
            async with client.get(path) as answer:
                assert (await answer.read(), answer.content_type) == (b"a {}", "text/css")
        async with client.get("/userdata/evil.html") as answer:
            assert answer.content_type == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment")

    serve(tmp_path, talk)


def test_a_list_needs_a_folder(tmp_path: Path) -> None:
    put(tmp_path, f"{USER}/a.json", b"x")

    async def talk(client: Client) -> None:
        assert (await told(client, "/userdata"))[0] == 400
        assert (await told(client, "/v2/userdata?path=a.json"))[0] == 400
        assert (await told(client, "/v2/userdata?path=none"))[0] == 404
        assert await told(client, "/userdata?dir=.") == (200, ["a.json"])

    serve(tmp_path, talk)


def test_the_routes_are_plain_and_without_a_prefix() -> None:
    found = userdata.routes()
    assert all(isinstance(route, web.RouteDef) and not route.path.startswith("/api") for route in found)
