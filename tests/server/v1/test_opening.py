"""Workflows opened from pictures, files, runs and the library."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from aiohttp import FormData
from PIL import Image, PngImagePlugin

from server.v1 import opening
from tests.server.v1.serving import DOCUMENT, GRAPH, png, served

EDITOR = {
    "last_node_id": 9, "last_link_id": 1, "version": 0.4,
    "nodes": [
        {"id": 1, "type": "EmptyImage", "pos": [10, 20], "size": [200, 100], "mode": 0, "inputs": [],
         "widgets_values": [16, 16, 1, 7], "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}]},
        {"id": 9, "type": "SaveImage", "pos": [300, 20], "mode": 0, "widgets_values": ["a"], "outputs": [],
         "inputs": [{"name": "images", "type": "IMAGE", "link": 1}]},
    ],
    "links": [[1, 1, 0, 9, 0, "IMAGE"]],
}  # fmt: skip
LINK = ["1", "IMAGE"]


def carrying(**texts):
    carried, file = PngImagePlugin.PngInfo(), io.BytesIO()
    for name, value in texts.items():
        carried.add_text(name, value if isinstance(value, str) else json.dumps(value))
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=carried)
    return file.getvalue()


def form(content, name="a picture.png"):
    found = FormData()
    found.add_field("file", content, filename=name)
    return found


@pytest.mark.parametrize(
    ("content", "name", "source", "called"),
    [
        (carrying(prompt=GRAPH, nodegraph=DOCUMENT), "x.png", "nodegraph", "plain"),
        (carrying(prompt=GRAPH, workflow=EDITOR), "x_00001_.png", "comfyui-editor", "x_00001_"),
        (carrying(prompt=GRAPH, workflow={"nodes": [{"id": 1}], "links": 3}), "x.png", "comfyui-api", "x"),
        (carrying(prompt="{", nodegraph=DOCUMENT), "x.png", "nodegraph", "plain"),
        (carrying(prompt=GRAPH), "x.PNG", "comfyui-api", "x"),
        (json.dumps(GRAPH).encode(), "my.graph.json", "comfyui-api", "my.graph"),
        (json.dumps(DOCUMENT).encode(), "other.json", "nodegraph", "plain"),
        (json.dumps(EDITOR).encode(), "pasted", "comfyui-editor", "pasted"),
    ],
)
def test_a_file_opens_as_a_document_with_links_by_name(tmp_path, content, name, source, called):
    async def story():
        async with served(tmp_path) as api:
            status, found = await api.ask("POST", "/v1/open", data=form(content, name))
            assert (status, found["source"], found["name"], found["problems"]) == (200, source, called, []), found
            document = found["document"]
            assert document["nodegraph"] == 1 and document["nodes"]["9"]["inputs"]["images"] == LINK
            if source == "comfyui-editor":
                assert document["ui"]["positions"]["1"] == [10, 20]
            if source == "nodegraph":
                assert document["inputs"] == DOCUMENT["inputs"] and document["doc"] == "One colour."
            assert not list((tmp_path / "input").glob(".*"))

    asyncio.run(story())


def test_a_webp_opens_too(tmp_path):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(GRAPH)}"
    Image.new("RGB", (8, 8)).save(file, "WEBP", exif=exif)

    async def story():
        async with served(tmp_path) as api:
            status, found = await api.ask("POST", "/v1/open", data=form(file.getvalue(), "x.webp"))
            assert (status, found["source"], found["document"]["nodes"]["9"]["inputs"]["images"]) == (
                200, "comfyui-api", LINK,
            )  # fmt: skip

    asyncio.run(story())


@pytest.mark.parametrize("name", ["x.png", "x.txt"])
def test_what_a1111_wrote_opens_with_what_is_not_as_it_was(tmp_path, name):
    text = "a red circle\nSteps: 4, Sampler: Euler a, Seed: 7, Size: 64x64, Model: starter, ENSD: 31337, RNG: CPU"
    content = carrying(parameters=text) if name == "x.png" else text.encode()

    async def story():
        async with served(tmp_path) as api:
            status, found = await api.ask("POST", "/v1/open", data=form(content, name))
            assert (status, found["source"], found["name"], found["problems"]) == (200, "a1111", "x", []), found
            assert found["notes"] == ["'ENSD: 31337' is not carried over: it gives ancestral samplers other noise."]
            nodes = found["document"]["nodes"]
            assert nodes["4"]["inputs"]["ckpt_name"] == "starter.safetensors"
            assert nodes["6"]["inputs"]["text"] == "a red circle"
            status, found = await api.ask("POST", "/v1/open", data=form(carrying(parameters=text, prompt=GRAPH)))
            assert (status, found["source"], found["notes"]) == (200, "comfyui-api", [])

    asyncio.run(story())


def test_runs_files_and_workflows_of_the_server_open(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            await api.submit(inputs={"width": 24})
            run = await api.carry(picture=carrying(prompt=GRAPH, nodegraph=DOCUMENT))
            _, found = await api.ask("POST", "/v1/open", json={"run": run})
            assert (found["name"], found["document"]["nodes"]["1"]["inputs"]["width"]) == ("plain", 24)
            file = {"type": "output", "subfolder": "", "filename": f"{run}.png"}
            _, found = await api.ask("POST", "/v1/open", json={"file": file})
            assert (found["name"], found["document"]["nodes"]["9"]["inputs"]["images"]) == ("plain", LINK)
            _, found = await api.ask("POST", "/v1/open", json={"workflow": "text_to_image"})
            assert found["problems"] == [] and found["document"]["nodes"]["8"]["inputs"]["samples"] == ["3", "LATENT"]
            for body in ({"run": "none"}, {"workflow": "none"}, {"file": {"filename": "none.png"}}):
                status, problem = await api.ask("POST", "/v1/open", json=body)
                assert status == 404, problem

    asyncio.run(story())


def test_bytes_that_are_no_utf_8_in_names_and_heads_are_answered(tmp_path):
    content = json.dumps(GRAPH).encode()
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xff.json"\r\n'

    async def story():
        async with served(tmp_path) as api:
            kind = {"Content-Type": "multipart/form-data; boundary=x"}
            body = head + b"\r\n" + content + b"\r\n--x--\r\n"
            status, found = await api.ask("POST", "/v1/open", data=body, headers=kind)
            assert (status, found["name"]) == (200, "?")
            body = head + b"Content-Type: multipart/mixed\xaa\r\n\r\n" + content + b"\r\n--x--\r\n"
            status, problem = await api.ask("POST", "/v1/open", data=body, headers=kind)
            assert status == 400 and "the form is malformed" in problem["detail"], problem

    asyncio.run(story())


def test_what_is_wrong_inside_is_told_and_opens_nevertheless(tmp_path):
    graph = {
        "1": {"class_type": "NoSuchNode", "inputs": {}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
        "3": {"class_type": "EmptyImage", "inputs": {"width": -4}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 5]}},
    }

    async def story():
        async with served(tmp_path) as api:
            status, found = await api.ask("POST", "/v1/open", data=form(json.dumps(graph).encode(), "a.json"))
            assert status == 200
            assert {(fault["node"], fault["kind"]) for fault in found["problems"]} >= {
                ("1", "missing_node"), ("3", "invalid"),
            }  # fmt: skip
            links = [found["document"]["nodes"][node]["inputs"]["images"] for node in "24"]
            assert links == [["1", 0], ["3", 5]]  # what has no name stays as it is

    asyncio.run(story())


def test_what_is_no_workflow_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LARGEST", 20_000)
    bad = {
        "plain.png": (png(), 422, "'plain.png' carries no workflow"),
        "cut.png": (png()[:40], 422, "'cut.png'"),
        "a.json": (b"{", 422, "not JSON at line 1"),
        "b.json": (b"[1]", 422, "the document is a JSON array"),
        "c.bin": (bytes(range(256)), 422, "not text"),
        "long.json": (b" " * 20_001, 413, "more than 20000"),
        "text.png": (carrying(prompt="{"), 422, "not JSON"),
    }

    async def story():
        async with served(tmp_path) as api:
            for name, (content, expected, words) in bad.items():
                status, problem = await api.ask("POST", "/v1/open", data=form(content, name))
                assert status == expected and words in problem["detail"], (name, problem)
            both = {"run": "a", "workflow": "b"}
            for body in ({}, both, {"document": {}}):
                assert (await api.ask("POST", "/v1/open", json=body))[0] == 422
            more = form(carrying(prompt=GRAPH))
            more.add_field("other", "x")
            assert (await api.ask("POST", "/v1/open", data=more))[0] == 422
            (tmp_path / "output").mkdir()
            (tmp_path / "output/long.json").write_bytes(b" " * 20_001)
            status, _ = await api.ask("POST", "/v1/open", json={"file": {"filename": "long.json"}})
            assert status == 413

    asyncio.run(story())
