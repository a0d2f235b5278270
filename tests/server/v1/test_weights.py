"""Models over the API: kinds, lists, and what each tells."""

from __future__ import annotations

import asyncio
import json

from tests.server.v1.serving import png, served

HEADER = {
    "__metadata__": {"ss_base_model_version": "sd_v1", "ss_tag_frequency": '{"a": 1}'},
    "x": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
}


def lay(folder):
    folder.mkdir(parents=True)
    text = json.dumps(HEADER).encode()
    (folder / "one.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    return folder / "one.safetensors"


def test_models_are_listed_by_kind_with_what_their_headers_tell(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            size = lay(tmp_path / "models/loras/sub").stat().st_size
            _, kinds = await api.ask("GET", "/v1/models")
            count = next(each["models"] for each in kinds["kinds"] if each["kind"] == "loras")
            _, found = await api.ask("GET", "/v1/models/loras")
            assert len(found["models"]) == count
            model = next(model for model in found["models"] if model["name"] == "sub/one.safetensors")
            assert model.pop("modified") and model == {
                "name": "sub/one.safetensors", "bytes": size, "family": "sd1", "picture": None, "metadata": True,
            }  # fmt: skip
            assert (await api.ask("GET", "/v1/models/unet"))[1]["kind"] == "diffusion_models"
            status, problem = await api.ask("GET", "/v1/models/lora")
            assert status == 404 and "did you mean 'loras'?" in problem["detail"]

    asyncio.run(story())


def test_a_model_tells_all_of_its_header(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            path = lay(tmp_path / "models/loras/sub")
            path.with_name("one.safetensors.sha256").write_text(f"{'AB' * 32}  one.safetensors\n")
            _, found = await api.ask("GET", "/v1/models/loras/sub%2Fone.safetensors")
            assert (found["kind"], found["family"], found["tensors"], found["dtype"], found["sha256"]) == (
                "loras", "sd1", 1, "F16", "ab" * 32,
            )  # fmt: skip
            assert found["metadata"] == HEADER["__metadata__"]
            assert (await api.ask("GET", "/v1/models/loras/sub/one.safetensors"))[1] == found
            for place in ("loras/none.safetensors", "loras/..%2F..%2Fx", "none/one.safetensors"):
                assert (await api.ask("GET", f"/v1/models/{place}"))[0] == 404

    asyncio.run(story())


def test_the_picture_beside_a_model_is_given_small(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            path = lay(tmp_path / "models/loras/sub")
            place = "/v1/models/loras/sub%2Fone.safetensors/picture"
            assert (await api.ask("GET", place))[0] == 404
            path.with_name("one.preview.png").write_bytes(png())
            _, found = await api.ask("GET", "/v1/models/loras/sub%2Fone.safetensors")
            assert found["picture"] == place
            status, headers, body = await api.whole("GET", f"{place}?size=16")
            assert (status, headers["Content-Type"], body[8:12]) == (200, "image/webp", b"WEBP")
            assert (await api.ask("GET", "/v1/models/loras/sub/one.safetensors/picture?size=16"))[1] == body
            assert (await api.ask("GET", f"{place}?size=16", headers={"If-None-Match": headers["ETag"]}))[0] == 304

    asyncio.run(story())
