"""What model files tell of themselves, without a weight being read."""

from __future__ import annotations

import base64
import json

import pytest

from server.headers import Told, cover_of, family_of, picture_beside, told_by


def tensor(*shape, dtype="F16"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, 0]}


def write(path, header):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


UNET = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
LORA = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"


@pytest.mark.parametrize(
    ("header", "family"),
    [
        ({UNET: tensor(320, 768)}, "sd1"),
        ({UNET: tensor(320, 1024)}, "sd2"),
        ({UNET: tensor(640, 2048)}, "sdxl"),
        ({UNET: tensor(640, 1280)}, "sdxl_refiner"),
        ({UNET: tensor(96, 128)}, None),
        ({f"{LORA}.lora_up.weight": tensor(640, 8), f"{LORA}.lora_down.weight": tensor(8, 2048)}, "sdxl"),
        ({"unet.attn2.to_k.lora_B.weight": tensor(9, 768), "unet.attn2.to_k.lora_A.weight": tensor(8, 768)}, "sd1"),
        ({"emb_params": tensor(3, 1024)}, "sd2"),
        ({"clip_g": tensor(3, 1280), "clip_l": tensor(3, 768)}, "sdxl"),
        ({"__metadata__": {"ss_base_model_version": "sdxl_base_v1-0"}}, "sdxl"),
        ({"__metadata__": {"modelspec.architecture": "stable-diffusion-xl-v1-refiner"}}, "sdxl_refiner"),
        ({"__metadata__": {"modelspec.architecture": "Flux-1-dev/lora"}}, "flux"),
        ({"__metadata__": {"modelspec.architecture": "other"}, UNET: tensor(320, 768)}, "sd1"),
        ({"__metadata__": 3, UNET: {"shape": "x"}, "emb_params": []}, None),
        ({"decoder.conv_in.weight": tensor(512, 4, 3, 3)}, None),
        ({}, None),
    ],
)
def test_the_family_follows_from_metadata_or_shapes(header, family):
    assert family_of(header) == family


def test_a_file_tells_its_tensors_and_the_type_of_most_of_its_weights_until_it_is_changed(tmp_path):
    header = {"__metadata__": {"a": "b"}, UNET: tensor(320, 768), "x": tensor(2, dtype="F32"), "y": tensor(dtype="F32")}
    path = write(tmp_path / "a.safetensors", header)
    assert told_by(path) == Told("sd1", 3, "F16", has_metadata=True)
    write(path, {"x": tensor(2, dtype="F32")})
    assert told_by(path) == Told(None, 1, "F32")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", b""), ("b.safetensors", b"\xff" * 40), ("c.safetensors", b"\x02\0\0\0\0\0\0\0[]"),
        ("d.safetensors", b"\x01\0\0\0\0\0\0\0{"), ("e.ckpt", b"\x80\x02"),
    ],
)  # fmt: skip
def test_a_file_without_a_header_tells_nothing(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert told_by(tmp_path / name) == Told()


def test_a_folder_tells_its_family_by_the_config_of_its_unet(tmp_path):
    (tmp_path / "unet").mkdir()
    assert told_by(tmp_path).family is None
    (tmp_path / "new/unet").mkdir(parents=True)
    (tmp_path / "new/unet/config.json").write_text('{"cross_attention_dim": 2048}')
    assert told_by(tmp_path / "new") == Told("sdxl")


def test_a_picture_is_beside_the_file_or_in_its_metadata(tmp_path):
    covers = json.dumps([base64.b64encode(b"picture").decode()])
    path = write(tmp_path / "a.b.safetensors", {"__metadata__": {"ssmd_cover_images": covers}})
    assert picture_beside(path) is None and told_by(path).has_cover
    assert cover_of(path).read() == b"picture"
    (tmp_path / "a.b.preview.png").write_bytes(b"")
    assert picture_beside(path) == tmp_path / "a.b.preview.png"
    (tmp_path / "a.b.jpg").write_bytes(b"")
    assert picture_beside(path) == tmp_path / "a.b.jpg"
    assert cover_of(write(tmp_path / "c.safetensors", {"__metadata__": {"ssmd_cover_images": "[3]"}})) is None
