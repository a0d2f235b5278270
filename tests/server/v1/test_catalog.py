"""Node types and models over the API."""

from __future__ import annotations

import asyncio

from tests.server.v1.serving import served


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


def test_models_are_listed_by_kind(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            folder = tmp_path / "models/loras/sub"
            folder.mkdir(parents=True)
            (folder / "one.safetensors").write_bytes(b"12345")
            _, kinds = await api.ask("GET", "/v1/models")
            count = next(each["models"] for each in kinds["kinds"] if each["kind"] == "loras")
            _, found = await api.ask("GET", "/v1/models/loras")
            assert len(found["models"]) == count
            sizes = {model["name"]: model["bytes"] for model in found["models"]}
            assert sizes["sub/one.safetensors"] == 5
            assert (await api.ask("GET", "/v1/models/unet"))[1]["kind"] == "diffusion_models"
            status, problem = await api.ask("GET", "/v1/models/lora")
            assert status == 404 and "did you mean 'loras'?" in problem["detail"]

    asyncio.run(story())
