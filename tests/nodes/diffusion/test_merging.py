"""Blending models: the formula written out, what is made anew, and what cannot be merged."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph.codec import decode, encode
from nodegraph.errors import FileProblem
from nodes.diffusion import weights
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part, lacking, read_unet
from nodes.diffusion.lora import LoraFile, LoraOverlay
from nodes.diffusion.merging import Blend, Share, blended

CONFIG = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 12, 8, None, False)
QUERY = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
HALF = Share("", 0.5, 0.5)
Tensors = dict[str, Tensor]


def state_of(config: UNetConfig, seed: int) -> Tensors:
    torch.manual_seed(seed)
    return {name: torch.randn_like(tensor) for name, tensor in weights.build(config).state_dict().items()}


def model(folder: Path, seed: int, config: UNetConfig = CONFIG, suffix: str = ".safetensors") -> tuple[Part, Tensors]:
    state, path = state_of(config, seed), folder / f"{seed}{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return read_unet(path, f"digest {seed}"), state


def lora(folder: Path) -> tuple[LoraOverlay, Tensor]:
    """A LoRA of one layer, and what it adds to it."""
    up, down = torch.randn(32, 2), torch.randn(2, 32)
    name = f"lora_unet_{QUERY.replace('.', '_')}"
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, folder / "lora.safetensors")
    return LoraOverlay(LoraFile("lora", str(folder / "lora.safetensors"), "lora"), 0.5), 0.5 * up @ down


def load(part: Part[Any], *variants: nn.Module) -> Tensors:
    return dict(part.load("cpu", torch.float32, variants).state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize(("keep", "add"), [(0.3, 0.7), (1.5, -1.5), (1.0, 1.0), (0.0, 1.0)])
def test_every_weight_is_a_sum_of_both(tmp_path: Path, keep: float, add: float, suffix: str) -> None:
    (one, first), (two, second) = model(tmp_path, 1), model(tmp_path, 2, suffix=suffix)
    part, told = blended(one, two, (Share("", keep, add),))
    merged = load(part)
    assert not told and merged.keys() == first.keys()
    for name, tensor in merged.items():
        assert torch.equal(tensor, first[name] * keep + second[name] * add), name


def test_the_whole_first_model_is_the_first_model(tmp_path: Path) -> None:
    one, first = model(tmp_path, 1)
    plain = one.load("cpu", torch.float32)
    merged = blended(one, model(tmp_path, 2)[0], (Share("", 1.0, 0.0),))[0].load("cpu", torch.float32, (plain,))
    for name, tensor in merged.state_dict().items():
        assert torch.equal(tensor, first[name])
        assert tensor.data_ptr() == plain.state_dict()[name].data_ptr()


def test_the_longest_prefix_counts_and_the_first_is_that_of_the_rest(tmp_path: Path) -> None:
    (one, first), (two, second) = model(tmp_path, 1), model(tmp_path, 2)
    shares = Share("input", 0.25, 0.75), Share("input_blocks.1", 0.5, 0.5), Share("out", 0.0, 1.0)
    merged = load(blended(one, two, shares)[0])
    for name, ratio in {
        "input_blocks.0.0.weight": 0.25, "input_blocks.1.0.in_layers.0.weight": 0.5, "time_embed.0.weight": 0.25,
        "middle_block.0.in_layers.0.weight": 0.25, "output_blocks.0.0.in_layers.0.weight": 0.0, "out.2.bias": 0.0,
    }.items():  # fmt: skip
        assert torch.equal(merged[name], first[name] * ratio + second[name] * (1 - ratio)), name


@pytest.mark.parametrize("is_first", [True, False])
def test_loras_of_either_model_come_before_the_merge(tmp_path: Path, is_first: bool) -> None:
    (one, first), (two, second) = model(tmp_path, 1), model(tmp_path, 2)
    overlay, change = lora(tmp_path)
    if is_first:
        one, first[f"{QUERY}.weight"] = one.overlaid(overlay), first[f"{QUERY}.weight"] + change
    else:
        two, second[f"{QUERY}.weight"] = two.overlaid(overlay), second[f"{QUERY}.weight"] + change
    for name, tensor in load(blended(one, two, (Share("", 0.3, 0.7),))[0]).items():
        torch.testing.assert_close(tensor, first[name] * 0.3 + second[name] * 0.7, rtol=1e-6, atol=1e-6)


def test_merges_follow_one_another_and_go_into_one_another(tmp_path: Path) -> None:
    (one, first), (two, second), (three, third) = (model(tmp_path, seed) for seed in (1, 2, 3))
    difference = blended(two, three, (Share("", 1.0, -1.0),))[0]
    whole = blended(blended(one, two, (HALF,))[0], difference, (Share("", 1.0, 1.0),))[0]
    for name, tensor in load(whole).items():
        expected = 0.5 * first[name] + 0.5 * second[name] + (second[name] - third[name])
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-6)


def test_another_ratio_makes_only_what_it_changes(tmp_path: Path) -> None:
    one, two = model(tmp_path, 1)[0], model(tmp_path, 2)[0]
    before = blended(one, two, (HALF, Share("out", 0.2, 0.8)))[0].load("cpu", torch.float32)
    other = blended(one, two, (HALF, Share("out", 0.3, 0.7)))[0]
    after = other.load("cpu", torch.float32, (before,)).state_dict()
    again = [name for name, tensor in before.state_dict().items() if tensor.data_ptr() != after[name].data_ptr()]
    assert again == [name for name in after if name.startswith("out")]
    for name, tensor in load(other).items():
        assert torch.equal(tensor, after[name])


def test_fingerprints_are_those_of_contents_and_shares(tmp_path: Path) -> None:
    one, two = model(tmp_path, 1)[0], model(tmp_path, 2)[0]
    (tmp_path / "moved").mkdir()
    moved = model(tmp_path / "moved", 2)[0]
    others = two, moved, two.overlaid(lora(tmp_path)[0])
    marks = [blended(one, other, (share,))[0].fingerprint for other in others for share in (HALF, Share("", 0.4, 0.6))]
    assert marks[:2] == marks[2:4] and len(set(marks)) == 4
    assert blended(one, two, (HALF,))[0].base == one.base


def test_a_merge_is_a_storable_value(tmp_path: Path) -> None:
    part = blended(model(tmp_path, 1)[0], model(tmp_path, 2)[0].overlaid(lora(tmp_path)[0]), (HALF,))[0]
    assert decode(*encode(part), {"nodes"}) == part


def test_files_are_open_as_long_as_there_are_changes_to_be_called(tmp_path: Path, monkeypatch: Any) -> None:
    one, (two, second) = model(tmp_path, 1)[0], model(tmp_path, 2, suffix=".ckpt")
    readers: list[weakref.ref[Any]] = []
    opened = weights._reader
    monkeypatch.setattr(weights, "_reader", lambda path: (readers.append(weakref.ref(found := opened(path))), found)[1])
    changes = Blend(two, (Share("", 0.0, 1.0),)).changes(one, torch.device("cpu"))
    assert not readers
    change = changes["out.2.bias"]
    assert torch.equal(change(torch.zeros(4)), second["out.2.bias"])
    del changes
    assert torch.equal(change(torch.zeros(4)), second["out.2.bias"])
    del change
    gc.collect()
    assert len(readers) == 1 and readers[0]() is None


def test_an_input_of_other_channels_takes_nothing_and_is_told(tmp_path: Path) -> None:
    one, first = model(tmp_path, 1, replace(CONFIG, in_channels=9))
    two, second = model(tmp_path, 2)
    part, told = blended(one, two, (Share("", 0.5, -0.5),))
    merged = load(part)
    assert torch.equal(merged["input_blocks.0.0.weight"], first["input_blocks.0.0.weight"] * 0.5)
    assert torch.equal(merged["out.2.weight"], (first["out.2.weight"] - second["out.2.weight"]) * 0.5)
    assert told == (
        "tensors of another shape in the second model take nothing of it, as in ComfyUI they are only multiplied by "
        "what is kept: input_blocks.0.0.weight [32, 9, 3, 3], there [32, 4, 3, 3]"
    )


def test_models_of_other_families_and_sizes_are_refused(tmp_path: Path) -> None:
    one = model(tmp_path, 1)[0]
    with pytest.raises(ValueError, match="a unet of SD2 with prompts of 12 features and the first a unet of SD1"):
        blended(one, model(tmp_path, 2, replace(CONFIG, use_linear=True, num_heads=None, head_channels=64,
                                                model_channels=64))[0], (HALF,))  # fmt: skip
    with pytest.raises(ValueError, match=r"\d+ of \d+ tensors are missing or of other shapes in the second model"):
        blended(one, model(tmp_path, 3, replace(CONFIG, model_channels=64))[0], (HALF,))
    with pytest.raises(FileProblem, match=r"1.safetensors: holds no UNet"):
        blended(one, lacking(one.path, "", "unet", "sd1"), (HALF,))
