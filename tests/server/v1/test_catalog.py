"""Node types over the API."""

from __future__ import annotations

import asyncio

from tests.server.v1.serving import DOCUMENT, served


def test_node_types_are_listed_found_and_described(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            _, whole = await api.ask("GET", "/v1/nodes")
            names = [node["name"] for node in whole["nodes"]]
            assert {"KSampler", "SaveImage"} <= set(names) and whole["failures"] == {}
            _, found = await api.ask("GET", "/v1/nodes?search=EMPTY%20image")
            assert [node["name"] for node in found["nodes"]] == ["EmptyImage", "EmptyLatentImage"]
            _, node = await api.ask("GET", "/v1/nodes/KSampler")
            assert node["inputs"]["steps"]["type"] == "integer" and node["inputs"]["model"]["link_only"] is True
            assert node["outputs"] == [{"name": "LATENT", "port": "LATENT", "is_list": False}]
            status, problem = await api.ask("GET", "/v1/nodes/ksamplr")
            assert status == 404 and "did you mean 'KSampler'?" in problem["detail"]

    asyncio.run(story())


def test_node_types_in_detail_have_what_an_editor_shows(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            _, found = await api.ask("GET", "/v1/nodes?detail=true")
            nodes = {node["name"]: node for node in found["nodes"]}
            sampler = {item["name"]: item for item in nodes["KSampler"]["inputs"]}
            assert list(sampler)[:2] == ["model", "seed"] and nodes["KSampler"]["workflow"] is None
            assert sampler["model"] == {
                "name": "model", "port": "MODEL", "required": True, "link_only": True, "is_list": False,
                "is_lazy": False, "doc": "The UNet that denoises.",
            }  # fmt: skip
            assert (sampler["steps"]["default"], sampler["steps"]["min"], sampler["steps"]["max"]) == (20, 1, 10000)
            assert "euler" in sampler["sampler_name"]["choices"] and "file" not in sampler["sampler_name"]
            assert sampler["seed"]["control_after_generate"] is True and "multiline" not in sampler["seed"]
            loader = nodes["CheckpointLoaderSimple"]["inputs"][0]
            assert loader["file"] == "checkpoints" and "choices" not in loader
            workflow = nodes["workflow:text_to_image"]
            assert workflow["workflow"] == "text_to_image" and workflow["outputs"][0]["port"] == "IMAGE"
            _, few = await api.ask("GET", "/v1/nodes?detail=true&search=empty%20image")
            assert [node["name"] for node in few["nodes"]] == ["EmptyImage", "EmptyLatentImage"]

    asyncio.run(story())


def test_node_types_in_detail_are_sent_once_until_a_file_or_a_workflow_comes(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            plain = {"Accept-Encoding": "identity"}
            _, headers, found = await api.whole("GET", "/v1/nodes?detail=true", headers=plain)
            assert "Content-Encoding" not in headers and "new.safetensors" not in found["files"]["checkpoints"]
            _, zipped, same = await api.whole("GET", "/v1/nodes?detail=true", headers={"Accept-Encoding": "gzip, br"})
            assert zipped["Content-Encoding"] == "gzip" and same == found and zipped["ETag"] == headers["ETag"]
            known = {"If-None-Match": headers["ETag"]}
            assert (await api.ask("GET", "/v1/nodes?detail=true", headers=known))[0] == 304
            (tmp_path / "models/checkpoints").mkdir(parents=True)
            (tmp_path / "models/checkpoints/new.safetensors").write_bytes(b"")
            status, found = await api.ask("GET", "/v1/nodes?detail=true", headers=known)
            assert status == 200 and "new.safetensors" in found["files"]["checkpoints"]
            await api.ask("PUT", "/v1/workflows/mine%2Fplain", json=DOCUMENT)
            _, found = await api.ask("GET", "/v1/nodes?detail=true", headers=known)
            own = next(node for node in found["nodes"] if node["name"] == "workflow:mine/plain")
            assert [item["name"] for item in own["inputs"]] == ["width", "color"]

    asyncio.run(story())
