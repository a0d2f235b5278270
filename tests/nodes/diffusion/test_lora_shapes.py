"""What a LoRA file is, told from its header."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodes.diffusion.checkpoints import family_of
from nodes.diffusion.lora_shapes import Adapter, Kind, adapters_of, extent, lora_family, lora_problems

MODELS = Path(__file__).parents[3] / "nodes" / "models"
OUTLINED = MODELS / "loras" / "starter-outlined.safetensors"
CROSS = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
Shapes = dict[str, tuple[int, ...]]


def save(path: Path, shapes: Shapes, **metadata: str) -> Path:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path, metadata=metadata or None)
    return path


def lora(width: int, layer: str = CROSS) -> Shapes:
    return {f"{layer}.lora_up.weight": (8, 2), f"{layer}.lora_down.weight": (2, width)}


@pytest.mark.parametrize(
    ("width", "family"), [(768, "SD1"), (1024, "SD2"), (2048, "SDXL"), (1280, "SDXL refiner"), (128, None)]
)
def test_the_width_of_its_prompts_tells_the_family(tmp_path: Path, width: int, family: str | None) -> None:
    assert lora_family(str(save(tmp_path / "a.safetensors", lora(width))), "") == family


def test_other_formats_and_names_tell_it_too(tmp_path: Path) -> None:
    peft = "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    old = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k"
    files: dict[str, Shapes] = {
        "peft": {f"{peft}.lora_A.weight": (2, 768), f"{peft}.lora_B.weight": (8, 2)},
        "diffusers": {f"{old}_lora.down.weight": (2, 768), f"{old}_lora.up.weight": (8, 2)},
        "loha": {f"{CROSS}.hada_w{n}_{side}": shape for n in (1, 2) for side, shape in
                 (("a", (8, 2)), ("b", (2, 768)))},
        "lokr": {f"{CROSS}.lokr_w1": (2, 4), f"{CROSS}.lokr_w2_a": (4, 1), f"{CROSS}.lokr_w2_b": (1, 192)},
        "diff": {f"{CROSS}.diff": (8, 768)},
    }  # fmt: skip
    for name, shapes in files.items():
        assert lora_family(str(save(tmp_path / f"{name}.safetensors", shapes)), "") == "SD1", name


def test_a_family_is_told_only_where_nothing_speaks_against_it(tmp_path: Path) -> None:
    told = {"ss_base_model_version": "sd_v1"}
    assert lora_family(str(save(tmp_path / "agrees.safetensors", lora(768), **told)), "") == "SD1"
    assert lora_family(str(save(tmp_path / "contradicts.safetensors", lora(2048), **told)), "") is None
    other = lora(2048, CROSS.replace("mid", "other"))
    assert lora_family(str(save(tmp_path / "mixed.safetensors", lora(768) | other)), "") is None
    text = lora(768, "lora_te_text_model_encoder_layers_0_mlp_fc1")
    assert lora_family(str(save(tmp_path / "text.safetensors", text, **told)), "") is None
    spec = {"modelspec.architecture": "stable-diffusion-v1/lora"}
    narrow = save(tmp_path / "narrow.safetensors", lora(64), **spec)
    assert lora_family(str(narrow), "") == "SD1 with prompts of 64 features"


def test_numbers_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    for dtype, name in ((torch.float8_e4m3fn, "F8_E4M3"), (torch.int8, "I8")):
        tensors = {tensor: torch.zeros(shape).to(dtype) for tensor, shape in lora(768).items()}
        save_file(tensors, tmp_path / "a.safetensors")
        assert lora_problems(tmp_path / "a.safetensors") == [
            f"a.safetensors: its weights are stored as {name}, which is not supported; use an fp16 version"
        ]


def test_the_starters_lora_is_of_the_starters_family() -> None:
    family = lora_family(str(OUTLINED), "")
    assert family is not None
    assert family == family_of(str(MODELS / "checkpoints" / "starter.safetensors"), "")


@pytest.mark.parametrize(
    ("shapes", "problem"),
    [
        ({"lora_transformer_single_transformer_blocks_0_attn_to_q.lora_up.weight": (8, 2)}, "a LoRA of another family"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3)}, "is a UNet alone, not a LoRA"),
        ({"lora_unet_mid_block_resnets_0_conv1.oft_diag": (2, 4, 4)}, "a LoRA in a format that is not supported"),
        ({"weights": (2, 4)}, "is not a LoRA that is known; LoRA, LoCon"),
        ({"input_hint_block.0.weight": (8, 4)}, "is a ControlNet, not a LoRA; put it in the `controlnet` folder"),
        ({"emb_params": (1, 8)}, "is a textual inversion, not a LoRA"),
    ],
)
def test_what_is_no_lora_is_said_to_be_what_it_is(tmp_path: Path, shapes: Shapes, problem: str) -> None:
    found = lora_problems(save(tmp_path / "a.safetensors", shapes))
    assert len(found) == 1 and found[0].startswith("a.safetensors: ") and problem in found[0]
    assert lora_problems(OUTLINED) == []


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        (("up", "down", "alpha"), "lora"), (("hada_w1_a", "hada_w1_b"), "loha"), (("lokr_w2_a", "lokr_w2_b"), "lokr"),
        (("a1", "a2", "b1", "b2"), "glora"), (("diff", "up"), "diff"), (("set_weight", "diff"), "set"),
        (("oft_blocks",), "oft"),
    ],
)  # fmt: skip
def test_the_pieces_of_a_layer_tell_its_kind(pieces: tuple[str, ...], kind: Kind) -> None:
    found = adapters_of({piece: piece for piece in pieces}, {"oft_blocks": (1, 2, 2)})
    assert list(found) == ["weight"] and found["weight"].kind == kind
    butterfly = adapters_of({"oft_blocks": "x", "diff_b": "y"}, {"x": (3, 1, 2, 2)})
    assert (butterfly["weight"].kind, butterfly["bias"]) == ("boft", Adapter("diff", {"diff": "y"}))


def test_pieces_that_are_missing_or_do_not_fit_have_no_extent() -> None:
    def size(kind: Kind, **shapes: tuple[int, ...]) -> object:
        return extent(Adapter(kind, {name: name for name in shapes}), shapes)

    assert size("lora", up=(8, 2)) is None
    assert size("lora", up=(8, 2), down=(3, 4)) is None
    assert size("loha", hada_w1_a=(8, 2), hada_w1_b=(2, 4)) is None
    assert size("glora", a1=(4, 2), a2=(3, 4), b1=(8, 5), b2=(6, 4)) is None
    assert size("lora", up=(8, 2), down=()) is size("lora", up=(8,), down=(1, 4)) is None
    assert size("lora", up=(8, 0), down=(0, 4), alpha=()) is None  # a rank of 0 has no scale
    assert size("lora", up=(8, 2), down=(2, 4), alpha=(2,)) is None
    assert size("lora", up=(8, 2), down=(2, 4), alpha=(1,)) == (8, 4)
    assert size("loha", **{f"hada_w{n}_{side}": shape for n in (1, 2) for side, shape in
                           (("a", (8, 2)), ("b", (3, 4)))}) is None  # fmt: skip
    assert size("lokr", lokr_w1=(2, 2), lokr_w2_a=(8, 2), lokr_w2_b=(3, 4)) is None
    assert size("lokr", lokr_w1=(2, 2), lokr_t2=(2, 2, 3, 3), lokr_w2_a=(3, 8), lokr_w2_b=(2, 4)) is None
    assert size("oft", oft_blocks=(2, 4, 3)) is None
    assert size("boft", oft_blocks=(3, 2, 4, 4)) is None  # the third factor turns 16 rows at once
    assert size("oft", oft_blocks=(2, 4, 4)) == size("boft", oft_blocks=(2, 2, 4, 4)) == (8, None)


def test_matching_and_checking_import_no_torch() -> None:
    code = (
        "import sys, nodes.lora;"
        "from nodes.diffusion.checkpoints import read_checkpoint;"
        "from nodes.diffusion.lora import LoraFile, fit;"
        "from nodes.diffusion.lora_shapes import lora_family, lora_problems;"
        f"found = read_checkpoint({str(MODELS / 'checkpoints' / 'starter.safetensors')!r}, '');"
        f"assert len(fit(LoraFile('a', {str(OUTLINED)!r}, ''), found.unet).changes) > 50;"
        f"assert lora_problems({str(OUTLINED)!r}) == [] and lora_family({str(OUTLINED)!r}, '');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
