"""The application as a whole: what answers where, before anything runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from nodegraph.errors import NodegraphError
from nodegraph.settings import Settings
from server import app as module
from server.app import frontend_folder, make_app
from server.settings import ServerSettings


def settings_for(home: Path) -> ServerSettings:
    return ServerSettings(engine=Settings(home=home, device="cpu"), is_warm=False)


def ask(settings, *paths):
    """The status, headers and text of some paths, asked once the worker is up."""

    async def main():
        async with TestClient(TestServer(await make_app(settings))) as client:
            while (await client.get("/readyz")).status != 200:
                await asyncio.sleep(0.02)
            found = []
            for path in paths:
                answer = await client.get(path, allow_redirects=False)
                found.append((answer.status, answer.headers, await answer.text()))
            return found

    return asyncio.run(main())


def test_health_readiness_and_the_front_page(tmp_path):
    settings = replace(settings_for(tmp_path), frontend="none")
    health, ready, front, page, metrics = ask(settings, "/healthz", "/readyz", "/", "/v1/docs", "/metrics")
    assert (health[0], health[2]) == (200, '{"status": "ok"}')
    assert (ready[0], ready[2]) == (200, '{"status": "ready", "missing": []}')
    assert (front[0], front[1]["Location"]) == (302, "/v1/docs")
    assert page[0] == 200 and page[1]["Content-Type"].startswith("text/html")
    assert metrics[0] == 200 and "nodegraph_" in metrics[2]


def test_it_is_not_ready_before_node_types_and_workers_are_there(tmp_path):
    async def main():
        app = await make_app(settings_for(tmp_path))
        async with TestClient(TestServer(app)) as client:
            first = await client.get("/readyz")
            return first.status, (await first.json())["missing"]

    status, missing = asyncio.run(main())
    assert status == 503 and "no worker is up" in missing


@pytest.mark.parametrize(
    "path", ["/prompt", "/queue", "/history", "/object_info/KSampler", "/models", "/settings", "/jobs"]
)
def test_comfyuis_routes_are_there_with_and_without_api(tmp_path, path):
    plain, under_api = ask(settings_for(tmp_path), path, f"/api{path}")
    assert plain[0] == under_api[0] == 200 and plain[2] == under_api[2]


def test_what_is_nowhere_is_told_in_the_shape_of_its_api(tmp_path):
    comfy, ours = ask(settings_for(tmp_path), "/nowhere", "/v1/nowhere")
    assert comfy[0] == ours[0] == 404
    assert comfy[1]["Content-Type"].startswith("application/json")
    assert ours[1]["Content-Type"].startswith("application/problem+json")


def test_a_frontend_that_is_not_installed_is_told_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(NodegraphError, match="pip install comfyui-frontend-package"):
        frontend_folder(replace(settings_for(tmp_path), frontend="comfyui"))
    assert frontend_folder(settings_for(tmp_path)) is None


def test_the_canvas_is_what_is_shown_unless_something_else_is_asked_for(monkeypatch, tmp_path):
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "index.html").write_text("<html><head></head></html>")
    (folder / "app.js").write_text("start();")
    monkeypatch.setattr(module, "canvas_folder", lambda: folder)
    index, form, script, outside = ask(
        settings_for(tmp_path / "home"), "/", "/form/text_to_image", "/web/app.js", "/web/missing.js"
    )
    assert index[0] == form[0] == 200 and index[2] == form[2]
    assert '<link rel="modulepreload" href="/web/app.js">' in index[2]
    host = index[1]["Content-Security-Policy"].partition("ws://")[2].partition(" ")[0]
    assert host.startswith("127.0.0.1:")
    assert (script[0], script[2]) == (200, "start();")
    assert outside[0] == 404 and outside[1]["Content-Type"].startswith("application/json")


def test_without_its_files_the_canvas_is_not_served_at_all(monkeypatch, tmp_path):
    def missing():
        raise NodegraphError("the canvas is not there")

    monkeypatch.setattr(module, "canvas_folder", missing)
    with pytest.raises(NodegraphError, match="not there"):
        asyncio.run(make_app(settings_for(tmp_path)))


def test_comfyuis_frontend_is_served_with_its_files(monkeypatch, tmp_path):
    static = tmp_path / "package" / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<html><script>start()</script></html>")
    (static / "assets" / "a.js").write_text("start = 1")
    monkeypatch.setattr(module, "frontend_folder", lambda settings: static)
    settings = replace(settings_for(tmp_path / "home"), frontend="comfyui")
    index, script, outside = ask(settings, "/", "/assets/a.js", "/assets/%2e%2e/%2e%2e/secret")
    assert (index[0], index[2], index[1]["Cache-Control"]) == (200, (static / "index.html").read_text(), "no-cache")
    assert (script[0], script[2]) == (200, "start = 1")
    assert outside[0] in (403, 404)
