"""The library as a gallery shows it: what each workflow is, and a picture of it."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from PIL import Image

from server.v1.library import About, about
from tests.server.v1.serving import DOCUMENT, GRAPH, served


def webp():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "WEBP")
    return file.getvalue()


async def entry(api, name):
    _, found = await api.ask("GET", "/v1/workflows")
    return next(each for each in found["workflows"] if each["name"] == name)


def test_a_workflow_tells_what_it_is(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/mine%2Fplain", json=DOCUMENT)
            own = await entry(api, "mine/plain")
            assert (own["title"], own["doc"], own["nodes"], own["inputs"]) == (
                "plain", "One colour.", 2, ["width", "color"],
            )  # fmt: skip
            assert (own["is_own"], own["ships"], own["picture"]) == (True, False, None)
            shipped = await entry(api, "text_to_image")
            assert (shipped["is_own"], shipped["ships"]) == (False, True) and "prompt" in shipped["inputs"]
            await api.ask("PUT", "/v1/workflows/text_to_image", json=DOCUMENT, headers={"If-Match": "*"})
            hidden = await entry(api, "text_to_image")
            assert (hidden["is_own"], hidden["ships"], hidden["nodes"]) == (True, True, 2)

    asyncio.run(story())


def test_its_picture_is_the_newest_of_a_run_that_succeeded_else_the_one_beside_it(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/mine", json=DOCUMENT)
            assert (await api.ask("GET", "/v1/workflows/mine/picture"))[0] == 404
            (tmp_path / "workflows/mine.webp").write_bytes(webp())
            assert (await entry(api, "mine"))["picture"] == "/v1/workflows/mine/picture"
            status, headers, body = await api.whole("GET", "/v1/workflows/mine/picture")
            assert (status, headers["Content-Type"], body) == (200, "image/webp", webp())
            runs = []
            for ending in ("success", "success", "error"):
                await api.submit()
                runs.append(await api.carry(ending))
            found = (await entry(api, "mine"))["picture"]
            assert found == f"/v1/files/output/{runs[1]}.png" and (await api.ask("GET", found))[0] == 200
            (tmp_path / f"output/{runs[1]}.png").unlink()
            assert (await entry(api, "mine"))["picture"] == "/v1/workflows/mine/picture"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (DOCUMENT, About("plain", "One colour.", 2, ("width", "color"))),
        (GRAPH, About(nodes=2)),
        ({"nodes": [{"id": 1}, {"id": 2}, {"id": 3}], "links": []}, About(nodes=3)),
        ({"name": 3, "doc": [], "nodes": 5, "inputs": "x"}, About()),
        ([1], About()),
    ],
)
def test_what_a_document_says_of_itself(document, expected):
    assert about(json.dumps(document).encode()) == expected


def test_what_is_no_json_says_nothing_of_itself():
    assert about(b"{") == about(b"\xff") == about(b"[" * 100_000) == About()
