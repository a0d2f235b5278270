"""What files are recognised as, without reading their tensors."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import ClipConfig, UNetConfig, VaeConfig
from nodes.diffusion.checkpoints import (
    checkpoint_problems,
    lacking,
    part_entries,
    read_checkpoint,
    read_clip,
    read_unet,
    read_vae,
)
from nodes.diffusion.weights import build

UNET, VAE = "model.diffusion_model.", "first_stage_model."
SD1 = UNetConfig(4, 4, 320, (1, 2, 4, 4), (2, 2, 2, 2), (1, 1, 1, 0), 1, 768, 8, None, False)
SD2 = UNetConfig(4, 4, 320, (1, 2, 4, 4), (2, 2, 2, 2), (1, 1, 1, 0), 1, 1024, None, 64, True)
SDXL = UNetConfig(4, 4, 320, (1, 2, 4), (2, 2, 2), (0, 2, 10), 10, 2048, None, 64, True, 2816, latent_scale=0.13025)
REFINER = UNetConfig(
    4, 4, 384, (1, 2, 4, 4), (2, 2, 2, 2), (0, 4, 4, 0), 4, 1280, None, 64, True, 2560, latent_scale=0.13025
)  # fmt: skip
CLIP_L = ClipConfig()
CLIP_H = ClipConfig(1024, 24, 16, 4096, "gelu", layout="openclip", projection=1024, default_layer=-2, pad_token=0)
CLIP_G = ClipConfig(
    1280, 32, 20, 5120, "gelu", layout="openclip", projection=1280, default_layer=-2, final_norm=False, pad_token=0
)  # fmt: skip
SDXL_L = ClipConfig(default_layer=-2, final_norm=False)
L0, L1 = "cond_stage_model.transformer.", "conditioner.embedders.0.transformer."
FULL = {
    "sd1": (SD1, {L0: CLIP_L}),
    "sd2": (SD2, {"cond_stage_model.model.": CLIP_H}),
    "sdxl": (SDXL, {L1: SDXL_L, "conditioner.embedders.1.model.": CLIP_G}),
    "sdxl_refiner": (REFINER, {"conditioner.embedders.0.model.": CLIP_G}),
}
Shapes = dict[str, tuple[int, ...]]


def shapes_of(config: UNetConfig | VaeConfig | ClipConfig, prefix: str = "") -> Shapes:
    with torch.device("meta"):
        state = build(config).state_dict()
    if isinstance(config, ClipConfig) and config.layout == "openclip":
        return {prefix + name: shape for name, shape in open_clip_shapes(config).items()}
    return {prefix + name: tuple(tensor.shape) for name, tensor in state.items()}


def open_clip_shapes(config: ClipConfig) -> Shapes:
    width, inner = config.hidden, config.intermediate
    shapes: Shapes = {
        "token_embedding.weight": (config.vocab, width), "positional_embedding": (77, width), "logit_scale": (),
        "ln_final.weight": (width,), "ln_final.bias": (width,), "text_projection": (width, width),
    }  # fmt: skip
    for i in range(config.layers):
        block = f"transformer.resblocks.{i}."
        for name, shape in {
            "ln_1": (width,), "ln_2": (width,), "attn.in_proj_": (3 * width, width), "attn.out_proj": (width, width),
            "mlp.c_fc": (inner, width), "mlp.c_proj": (width, inner),
        }.items():  # fmt: skip
            dot = "" if name.endswith("_") else "."
            shapes |= {f"{block}{name}{dot}weight": shape, f"{block}{name}{dot}bias": shape[:1]}
    return shapes


def write_header(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "F16", **metadata: str) -> Path:
    """A safetensors file whose tensors are a hole: the size is there, the bytes are not."""
    table: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end, item = 0, {"F16": 2, "F32": 4, "F8_E4M3": 1}[dtype]
    for name, shape in shapes.items():
        size = math.prod(shape) * item
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return path


def full_shapes(family: str) -> Shapes:
    unet, clips = FULL[family]
    shapes = shapes_of(unet, UNET) | shapes_of(VaeConfig(), VAE)
    for prefix, config in clips.items():
        shapes |= shapes_of(config, prefix)
    return shapes


@pytest.mark.parametrize("family", FULL)
def test_full_size_checkpoints_are_recognised_from_names_and_shapes(tmp_path: Path, family: str) -> None:
    found = read_checkpoint(write_header(tmp_path / "model.safetensors", full_shapes(family)), "digest")
    unet, clips = FULL[family]
    assert found.family == family
    assert found.unet is not None and found.unet.config == unet
    assert [part.config for part in found.clip] == list(clips.values())
    assert found.vae is not None and found.vae.config == VaeConfig()
    assert found.unet.nbytes == 2 * found.unet.parameters
    assert {part.role for part in found.clip} == {
        "sd1": {"clip_l"},
        "sd2": {"clip_h"},
        "sdxl": {"clip_l", "clip_g"},
    }.get(family, {"clip_g"})


@pytest.mark.parametrize(
    ("family", "parameters"), [("sd1", 859_520_964), ("sd2", 865_910_724), ("sdxl", 2_567_463_684)]
)
def test_full_size_unets_have_the_published_number_of_parameters(family: str, parameters: int) -> None:
    assert sum(math.prod(shape) for shape in shapes_of(FULL[family][0]).values()) == parameters


@pytest.mark.parametrize("family", FULL)
def test_a_unet_alone_shows_its_family(tmp_path: Path, family: str) -> None:
    part = read_unet(write_header(tmp_path / "unet.safetensors", shapes_of(FULL[family][0])), "digest")
    assert (part.family, part.config) == (family, FULL[family][0])


def test_an_inpainting_model_has_nine_input_channels(tmp_path: Path) -> None:
    shapes = full_shapes("sd1") | {UNET + "input_blocks.0.0.weight": (320, 9, 3, 3)}
    found = read_checkpoint(write_header(tmp_path / "inpaint.safetensors", shapes), "digest")
    assert found.unet is not None and found.unet.config.in_channels == 9


def test_metadata_gives_what_shapes_do_not_show(tmp_path: Path) -> None:
    arch = json.dumps(
        {"unet": {"num_heads": 4, "num_head_channels": -1, "norm_groups": 16}, "clip_l": {"heads": 6, "act": "gelu"}}
    )
    found = read_checkpoint(write_header(tmp_path / "model.safetensors", full_shapes("sd1"), arch=arch), "digest")
    assert found.unet is not None
    assert (found.unet.config.num_heads, found.unet.config.head_channels, found.unet.config.norm_groups) == (
        4,
        None,
        16,
    )
    assert (found.clip[0].config.heads, found.clip[0].config.activation) == (6, "gelu")


@pytest.mark.parametrize("arch", ["DiT", "[1]", '{"unet": 3}', "{"])
def test_metadata_of_another_meaning_is_ignored(tmp_path: Path, arch: str) -> None:
    found = read_checkpoint(write_header(tmp_path / "model.safetensors", full_shapes("sd1"), arch=arch), "digest")
    assert found.unet is not None and found.unet.config == SD1


@pytest.mark.parametrize("heads", [0, -3, "eight", 2.5, True])
def test_a_senseless_head_count_is_named(tmp_path: Path, heads: object) -> None:
    arch = json.dumps({"unet": {"num_heads": heads}})
    path = write_header(tmp_path / "model.safetensors", full_shapes("sd1"), arch=arch)
    with pytest.raises(FileProblem, match="num_heads"):
        read_checkpoint(path, "digest")


def test_widths_that_heads_do_not_divide_are_named_with_the_fix(tmp_path: Path) -> None:
    small = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 16, None, 64, True)
    with pytest.raises(FileProblem, match=r"32 channels.*under `arch`"):
        read_unet(write_header(tmp_path / "small.safetensors", shapes_of(small)), "digest")


@pytest.mark.parametrize(
    ("metadata", "markers", "prediction"),
    [
        ({}, {}, "eps"),
        ({"modelspec.prediction_type": "v"}, {}, "v"),
        ({"modelspec.prediction_type": "epsilon"}, {}, "eps"),
        ({}, {"v_pred": ()}, "v"),
    ],
)
def test_the_prediction_is_read_from_metadata_or_a_marker(
    tmp_path: Path, metadata: dict[str, str], markers: Shapes, prediction: str
) -> None:
    path = write_header(tmp_path / "model.safetensors", full_shapes("sdxl") | markers, **metadata)
    found = read_checkpoint(path, "digest")
    assert found.unet is not None and found.unet.config.prediction == prediction


@pytest.mark.parametrize(("spread", "channels", "prediction"), [(0.02, 4, "eps"), (0.3, 4, "v"), (0.3, 9, "eps")])
def test_the_prediction_of_sd2_is_told_by_the_spread_of_a_norm(
    tmp_path: Path, spread: float, channels: int, prediction: str
) -> None:
    name = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    shapes = full_shapes("sd2")
    shapes[UNET + "input_blocks.0.0.weight"] = (320, channels, 3, 3)  # of nine: inpainting, which predicts noise
    path = write_header(
        tmp_path / "model.safetensors", {name: shapes.pop(name)} | shapes
    )  # first, so it follows the header
    with path.open("r+b") as file:
        file.seek(8 + struct.unpack("<Q", file.read(8))[0])
        file.write(struct.pack("<320e", *([spread, -spread] * 160)))
    found = read_checkpoint(path, "digest")
    assert found.unet is not None and found.unet.config.prediction == prediction


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], "LoRA.*LoraLoader"),
        (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "LoRA.*LoraLoader"),
        (["control_model.input_blocks.0.0.weight"], "ControlNet.*ControlNetLoader"),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], "ControlNet"),
        (["decoder.conv_in.weight", "encoder.conv_in.weight"], "VAE.*VAELoader"),
        (["emb_params"], "textual inversion.*embeddings"),
        (["conv_first.weight", "body.0.rdb1.conv1.weight"], "upscaler.*UpscaleModelLoader"),
        (["text_model.embeddings.token_embedding.weight"], "text encoder.*CLIPLoader"),
        (["input_blocks.0.0.weight", "out.2.weight"], "UNet alone.*UNETLoader"),
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "another family.*not supported"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "another family.*not supported"),
        (["something.else"], "not a checkpoint of a supported family"),
        ([], "not a checkpoint of a supported family"),
    ],
)
def test_a_file_of_another_kind_is_named_with_the_place_it_belongs(
    tmp_path: Path, names: list[str], words: str
) -> None:
    path = write_header(tmp_path / "other.safetensors", {name: (4, 4) for name in names})
    with pytest.raises(FileProblem, match=f"^other.safetensors: .*{words}"):
        read_checkpoint(path, "digest")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\0\0", "not a safetensors"),
        (b"\xff" * 64, "not a safetensors"),
        (struct.pack("<Q", 500) + b'{"a": 1', "cut short"),
        (struct.pack("<Q", 8) + b'{"a": 1]', "header is damaged"),
        (struct.pack("<Q", 9) + b'{"a": {}}', "entry of tensor 'a'"),
        (struct.pack("<Q", 59) + b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'[:59], "damaged"),
    ],
)
def test_a_damaged_file_gives_one_clear_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=f"^model.safetensors: .*{words}.*") as caught:
        read_checkpoint(path, "digest")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("offsets", [[0, 4], [8, 0], [-8, 0], [0, "8"], [0], 5])
def test_offsets_that_do_not_fit_the_shape_are_refused(tmp_path: Path, offsets: object) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": offsets}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(FileProblem, match="entry of tensor 'a'"):
        read_checkpoint(tmp_path / "model.safetensors", "digest")


def test_a_file_that_ends_before_its_last_tensor_is_cut_short(tmp_path: Path) -> None:
    path = write_header(tmp_path / "model.safetensors", full_shapes("sd1"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert "cut short" in checkpoint_problems(path)[0]


def test_fp8_weights_are_refused(tmp_path: Path) -> None:
    path = write_header(tmp_path / "model.safetensors", full_shapes("sd1"), "F8_E4M3")
    with pytest.raises(FileProblem, match=r"F8_E4M3.*fp16"):
        read_checkpoint(path, "digest")


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    assert checkpoint_problems(tmp_path / "none.safetensors") == [
        "none.safetensors: cannot be read (No such file or directory); check that the file is there"
    ]


def test_a_checkpoint_may_lack_text_encoder_and_vae(tmp_path: Path) -> None:
    path = write_header(tmp_path / "model.safetensors", shapes_of(SD1, UNET))
    found = read_checkpoint(path, "digest")
    assert (found.clip, found.vae) == ((), None)
    part = lacking(path, "digest", "vae", found.family)
    assert part_entries(part) == {}
    with pytest.raises(FileProblem, match=r"model.safetensors: holds no VAE; load one with VAELoader"):
        part.load("cpu", torch.float32)


def test_a_vae_or_text_encoder_alone_is_read(tmp_path: Path) -> None:
    assert read_vae(write_header(tmp_path / "vae.safetensors", shapes_of(VaeConfig())), "digest").config == VaeConfig()
    clip = write_header(tmp_path / "clip.safetensors", shapes_of(CLIP_L))
    assert read_clip(clip, "digest", "clip_l", "sd1").config == CLIP_L
    with pytest.raises(FileProblem, match="is a VAE, not a text encoder"):
        read_clip(tmp_path / "vae.safetensors", "digest", "clip_l", "sd1")


def test_the_fingerprint_follows_content_and_configuration_not_the_path(tmp_path: Path) -> None:
    first = read_unet(write_header(tmp_path / "a.safetensors", shapes_of(SD1)), "digest")
    second = read_unet(write_header(tmp_path / "b.safetensors", shapes_of(SD1)), "digest")
    other = read_unet(tmp_path / "a.safetensors", "another digest")
    assert first.fingerprint == second.fingerprint != other.fingerprint


def test_reading_a_checkpoint_imports_no_torch() -> None:
    code = "import sys, nodes.diffusion.checkpoints, nodes.types; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
