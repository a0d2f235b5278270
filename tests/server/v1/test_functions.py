"""Workflows as functions: inputs in, a picture or JSON out, at once or later."""

from __future__ import annotations

import asyncio
import io
import json

import aiohttp
import pytest
from PIL import Image

from server.v1.functions import preference_of, wanted_of
from tests.server.v1.serving import DOCUMENT, GRAPH, png, served

RUN = "/v1/workflows/plain/run"
LOADER = {
    "nodegraph": 1,
    "nodes": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    },
    "inputs": {"picture": {"bind": ["1.image"], "required": True}, "prefix": {"bind": ["9.filename_prefix"]}},
    "outputs": {"image": "1.IMAGE"},
}


async def ran(api, path=RUN, **options):
    """Asks for a run and plays the worker -> the answer."""
    asking = asyncio.create_task(api.whole("POST", path, **options))
    while not api.service.dispatcher._awaited:
        await asyncio.sleep(0)
        if asking.done():
            return asking.result()
    await api.carry()
    return await asking


def test_a_workflow_answers_with_its_run_or_with_its_picture(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/plain", json=DOCUMENT)
            status, headers, run = await ran(api, json={"inputs": {"width": 24}})
            assert (status, run["status"], headers["Nodegraph-Run"]) == (200, "success", run["id"])
            _, document = await api.ask("GET", f"/v1/runs/{run['id']}/workflow")
            assert document["nodes"]["1"]["inputs"]["width"] == 24
            status, headers, body = await ran(api, headers={"Accept": "image/png"})
            assert (status, headers["Content-Type"], body) == (200, "image/png", png())
            assert (await api.ask("GET", f"/v1/runs/{headers['Nodegraph-Run']}"))[1]["status"] == "success"
            for kind in ("webp", "jpeg"):
                status, headers, body = await ran(api, headers={"Accept": f"image/{kind}"})
                picture = Image.open(io.BytesIO(body))
                assert (status, headers["Content-Type"], picture.format) == (200, f"image/{kind}", kind.upper())
                assert picture.size == (40, 20)

    asyncio.run(story())


def test_a_run_that_takes_longer_than_is_waited_goes_on(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/plain", json=DOCUMENT)
            status, headers, ticket = await api.whole("POST", RUN, headers={"Prefer": "respond-async"})
            assert (status, headers["Preference-Applied"]) == (202, "respond-async")
            assert headers["Location"] == f"/v1/runs/{ticket['id']}" == ticket["url"]
            status, headers, _ = await api.whole("POST", RUN, headers={"Prefer": "wait=0", "Accept": "image/png"})
            assert (status, headers["Preference-Applied"]) == (202, "wait=0")
            assert (await api.ask("GET", "/v1/queue"))[1]["counts"]["queued"] == 2

    asyncio.run(story())


def test_a_run_that_fails_is_an_error_that_names_the_node(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/plain", json=DOCUMENT)
            for status, error, sort in [
                ("error", {"message": "too hot", "node": "1", "class_type": "EmptyImage"}, "run-failed"),
                ("cancelled", None, "run-cancelled"),
            ]:
                asking = asyncio.create_task(api.ask("POST", RUN))
                while not api.service.dispatcher._awaited and not asking.done():
                    await asyncio.sleep(0)
                run = await api.carry(status, error)
                found, problem = await asking
                assert (found, problem["type"], problem["run"]) == (
                    422 if error else 409, f"/v1/docs#problem-{sort}", run,
                )  # fmt: skip
                if error:
                    assert problem["problems"][0]["node"] == "1" and "too hot" in problem["detail"]

    asyncio.run(story())


def test_a_call_that_does_not_fit_is_refused_before_anything_is_queued(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/plain", json=DOCUMENT)
            number = {**DOCUMENT, "outputs": {"n": "2.INT"}, "nodes": {
                **GRAPH, "2": {"class_type": "PrimitiveInt", "inputs": {"value": 1}}}}  # fmt: skip
            assert (await api.ask("PUT", "/v1/workflows/number", json=number))[1]["problems"] == []
            assert (await api.ask("POST", "/v1/workflows/number/run", headers={"Accept": "image/png"}))[0] == 406
            for body in ({"inputs": {"widht": 1}}, {"inputs": {"width": "x"}}, {"input": {}}, {"priority": 1001}):
                assert (await api.ask("POST", RUN, json=body))[0] == 422, body
            assert (await api.ask("POST", "/v1/workflows/none/run"))[0] == 404
            assert (await api.ask("POST", RUN, data=b"x", headers={"Content-Type": "text/plain"}))[0] == 415
            assert (await api.ask("GET", "/v1/runs"))[1]["total"] == 0

    asyncio.run(story())


def form(picture=None, name="a.png", field="picture", **fields):
    made = aiohttp.FormData(quote_fields=False)
    for key, value in fields.items():
        made.add_field(key, value)
    if picture is not None:
        made.add_field(field, picture, filename=name, content_type="image/png")
    return made


def test_pictures_come_by_form_or_by_the_name_of_an_upload(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/load", json=LOADER)
            place = "/v1/workflows/load/run"
            data = form(png(), inputs=json.dumps({"prefix": "b"}), priority="3")
            status, _, run = await ran(api, place, data=data)
            assert (status, run["priority"]) == (200, 3)
            nodes = (await api.ask("GET", f"/v1/runs/{run['id']}/workflow"))[1]["nodes"]
            assert (nodes["1"]["inputs"]["image"], nodes["9"]["inputs"]["filename_prefix"]) == ("a.png", "b")
            assert (tmp_path / "input/a.png").read_bytes() == png()
            _, upload = await api.ask("POST", "/v1/uploads", data=form(png((8, 8)), "b.png", "file"))
            status, _, run = await ran(api, place, json={"inputs": {"picture": upload["name"]}})
            assert status == 200
            status, problem = await api.ask("POST", place, json={})
            assert status == 422 and "'picture' has no value" in problem["detail"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"picture": png(), "field": "pictrue"}, 422, "did you mean 'picture'?"),
        ({"picture": b"no picture"}, 422, "not a picture"),
        ({"picture": b""}, 422, "empty"),
        ({"picture": png(), "name": "../a.png"}, 422, "out of its folder"),
        ({"picture": png(), "inputs": "{"}, 400, "not JSON"),
        ({"picture": png(), "inputs": "[]"}, 422, "form.inputs"),
        ({"picture": png(), "priority": "high"}, 422, "form.priority"),
        ({"picture": png(), "extra": "1"}, 422, "form.extra"),
    ],
)
def test_a_form_that_does_not_fit_leaves_nothing(tmp_path, fields, status, word):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/load", json=LOADER)
            found, problem = await api.ask("POST", "/v1/workflows/load/run", data=form(**fields))
            assert found == status and word in problem["detail"], problem
            assert [path for path in (tmp_path / "input").rglob("*") if path.is_file()] == []
            assert (await api.ask("GET", "/v1/runs"))[1]["total"] == 0

    asyncio.run(story())


def test_a_malformed_form_is_told(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.ask("PUT", "/v1/workflows/load", json=LOADER)
            for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
                answer = await api.ask("POST", "/v1/workflows/load/run", data=b"--y", headers={"Content-Type": kind})
                assert answer[0] == 400, kind

    asyncio.run(story())


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ([], "json"), (["*/*"], "json"), (["image/png"], "png"), (["image/*"], "image"), (["text/html"], "json"),
        (["image/webp;q=0.5, image/jpeg"], "jpeg"), (["application/json;q=0.1", "IMAGE/PNG; q=0.2"], "png"),
        (["image/png;q=0, application/json"], "json"), (["image/avif,image/webp,*/*;q=0.8"], "webp"),
    ],
)  # fmt: skip
def test_accept_decides_what_is_answered(accept, wanted):
    assert wanted_of(accept) == wanted


@pytest.mark.parametrize(
    ("prefer", "seconds", "applied"),
    [
        ("", 300.0, None), ("respond-async", 0.0, "respond-async"), ("wait=5", 5.0, "wait=5"),
        ("respond-async, wait=5", 0.0, "respond-async"), ("wait=9999", 600.0, "wait=600"),
        ("handling=lenient; wait = 7", 7.0, "wait=7"), ("wait=x", 300.0, None),
    ],
)  # fmt: skip
def test_prefer_decides_how_long_is_waited(prefer, seconds, applied):
    assert preference_of(prefer) == (seconds, applied)
