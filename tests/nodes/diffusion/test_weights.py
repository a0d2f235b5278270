"""Weights get from files into modules: unchanged, without a second copy, or with a sentence."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import ClipConfig, UNetConfig, VaeConfig
from nodes.diffusion.checkpoints import checkpoint_problems, read_checkpoint, read_clip, read_unet, read_vae
from nodes.diffusion.headers import read_header
from nodes.diffusion.weights import build, pickle_tensors, read_tensors

UNET = UNetConfig(4, 4, 16, (1, 2), (1, 1), (1, 0), 1, 12, 8, None, False, norm_groups=8)
VAE = VaeConfig(16, (1, 2), 1, norm_groups=8)
ARCH = json.dumps({"unet": {"norm_groups": 8}, "vae": {"norm_groups": 8}})
Tensors = dict[str, Tensor]


def state_of(
    config: UNetConfig | VaeConfig | ClipConfig, prefix: str = "", dtype: torch.dtype = torch.float16
) -> Tensors:
    torch.manual_seed(0)
    return {prefix + name: tensor.to(dtype).contiguous() for name, tensor in build(config).state_dict().items()}


def checkpoint_state(dtype: torch.dtype = torch.float16) -> Tensors:
    return state_of(UNET, "model.diffusion_model.", dtype) | state_of(VAE, "first_stage_model.", dtype)


def save_checkpoint(path: Path, state: Tensors) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path, metadata={"arch": ARCH})
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def assert_holds(module: nn.Module, state: Tensors, prefix: str, dtype: torch.dtype) -> None:
    own = module.state_dict()
    assert own.keys() == {name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    for name, tensor in own.items():
        assert tensor.dtype == dtype and torch.equal(tensor, state[prefix + name].to(dtype)), name
    assert not module.training and not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("wanted", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_arrive_unchanged_in_the_dtype_asked_for(
    tmp_path: Path, stored: torch.dtype, wanted: torch.dtype
) -> None:
    state = checkpoint_state(stored)
    found = read_checkpoint(save_checkpoint(tmp_path / "model.safetensors", state), "digest")
    assert found.unet is not None and found.vae is not None
    assert_holds(found.unet.load("cpu", wanted), state, "model.diffusion_model.", wanted)
    assert_holds(found.vae.load("cpu", wanted), state, "first_stage_model.", wanted)


def test_a_header_of_odd_length_is_read(tmp_path: Path) -> None:
    data, state = save(state_of(VAE)), state_of(VAE)
    length = struct.unpack("<Q", data[:8])[0]
    table = data[8 : 8 + length].rstrip()[:-1] + b',"__metadata__":' + json.dumps({"arch": ARCH}).encode() + b"}"
    table += b" " * (1 - len(table) % 2)
    (tmp_path / "vae.safetensors").write_bytes(struct.pack("<Q", len(table)) + table + data[8 + length :])
    vae = read_vae(tmp_path / "vae.safetensors", "digest").load("cpu", torch.float16)
    assert_holds(vae, state, "", torch.float16)


def test_a_third_of_a_tensor_counts_only_its_own_bytes(tmp_path: Path) -> None:
    width = 64
    state = {"token_embedding.weight": torch.randn(49408, width), "positional_embedding": torch.randn(77, width)}
    block = {"attn.in_proj_weight": (192, 64), "attn.in_proj_bias": (192,), "attn.out_proj.weight": (64, 64),
             "attn.out_proj.bias": (64,), "ln_1.weight": (64,), "ln_1.bias": (64,), "ln_2.weight": (64,),
             "ln_2.bias": (64,), "mlp.c_fc.weight": (96, 64), "mlp.c_fc.bias": (96,), "mlp.c_proj.weight": (64, 96),
             "mlp.c_proj.bias": (64,)}  # fmt: skip
    state |= {f"transformer.resblocks.0.{name}": torch.randn(shape) for name, shape in block.items()}
    state |= {"ln_final.weight": torch.ones(width), "ln_final.bias": torch.zeros(width)}
    save_file(state, tmp_path / "clip.safetensors")
    module = read_clip(tmp_path / "clip.safetensors", "digest", "clip_g", "sdxl").load("cpu", torch.float32)
    held = sum(tensor.untyped_storage().nbytes() for tensor in module.parameters())
    assert held == sum(tensor.nbytes for tensor in state.values())
    projections = [module.get_parameter(f"text_model.encoder.layers.0.self_attn.{p}_proj.weight") for p in "qkv"]
    assert torch.equal(torch.cat(projections), state["transformer.resblocks.0.attn.in_proj_weight"])


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    state = checkpoint_state()
    for name in ("out.2.bias", "time_embed.0.weight", "middle_block.0.in_layers.2.bias", "out.0.bias", "out.0.weight"):
        del state["model.diffusion_model." + name]
    found = read_checkpoint(save_checkpoint(tmp_path / "model.safetensors", state), "digest")
    assert found.unet is not None
    with pytest.raises(
        FileProblem, match=r"^model.safetensors: lacks time_embed.0.weight, .* and 2 more; it is incomplete"
    ):
        found.unet.load("cpu", torch.float32)


def test_tensors_of_another_shape_are_named(tmp_path: Path) -> None:
    state = checkpoint_state() | {"model.diffusion_model.out.0.weight": torch.zeros(5, dtype=torch.float16)}
    found = read_checkpoint(save_checkpoint(tmp_path / "model.safetensors", state), "digest")
    assert found.unet is not None
    with pytest.raises(FileProblem, match=r"out.0.weight is \[5\], not \[16\]"):
        found.unet.load("cpu", torch.float32)


def test_tensors_of_training_are_ignored(tmp_path: Path) -> None:
    state = checkpoint_state()
    more = {
        "alphas_cumprod": torch.ones(1000),
        "model_ema.decay": torch.ones(()),
        "model_ema.num_updates": torch.ones((), dtype=torch.int64),
    }
    found = read_checkpoint(save_checkpoint(tmp_path / "model.safetensors", state | more), "digest")
    assert found.unet is not None
    assert_holds(found.unet.load("cpu", torch.float32), state, "model.diffusion_model.", torch.float32)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_running_averages_are_the_weights_where_a_checkpoint_has_both(tmp_path: Path, suffix: str) -> None:
    config = replace(UNET, model_channels=32, norm_groups=32)  # as a pickle cannot tell otherwise
    state = state_of(config, "model.diffusion_model.")
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor + 1
        for name, tensor in state.items()
        if not name.endswith("out.2.bias")
    }
    more = {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.ones((), dtype=torch.int32)}
    path = tmp_path / f"model{suffix}"
    if suffix == ".ckpt":
        torch.save({"state_dict": state | averages | more}, path)
    else:
        save_file(state | averages | more, path)
    found = read_unet(path, "digest")
    assert found.config == config
    assert found.nbytes == sum(tensor.nbytes for tensor in state.values())
    module = found.load("cpu", torch.float16).state_dict()
    for name, tensor in module.items():
        plain = state["model.diffusion_model." + name]
        assert torch.equal(tensor, plain if name == "out.2.bias" else plain + 1), name


@pytest.mark.parametrize("is_legacy", [False, True], ids=["zip", "before torch 1.6"])
def test_a_pickle_of_tensors_is_a_checkpoint(tmp_path: Path, is_legacy: bool) -> None:
    tensors = state_of(UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 12, 8, None, False), "model.diffusion_model.")
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": tensors, "epoch": 3}, path, _use_new_zipfile_serialization=not is_legacy)
    found = read_checkpoint(path, "digest")
    assert found.unet is not None and found.unet.nbytes == sum(tensor.nbytes for tensor in tensors.values())
    assert_holds(found.unet.load("cpu", torch.float32), tensors, "model.diffusion_model.", torch.float32)


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": _Harm()}, tmp_path / "zip.ckpt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(_Harm(), protocol=2))
    for name in ("zip.ckpt", "bare.pt"):
        with pytest.raises(FileProblem, match=f"^{name}: .*run code.*refused; use a .safetensors"):
            read_checkpoint(tmp_path / name, "digest")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"garbage", b"PK\x03\x04 broken", b"\x80\x02", b"\x80\x02}q\x00."])
def test_a_damaged_pickle_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(FileProblem, match=r"^model.ckpt: ") as caught:
        read_checkpoint(tmp_path / "model.ckpt", "digest")
    assert "\n" not in str(caught.value)


def test_a_list_in_a_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "model.pt")
    with pytest.raises(FileProblem, match="holds no named tensors"):
        pickle_tensors(tmp_path / "model.pt")


def test_a_web_page_as_a_pickle_is_found_without_reading_it(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"<html>")
    assert "web page" in checkpoint_problems(tmp_path / "model.ckpt")[0]


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards_of_a_folder_are_read_together(tmp_path: Path, variant: str) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=12, norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    state = theirs.state_dict()
    (tmp_path / "unet" / "config.json").write_text('{"norm_num_groups": 8, "attention_head_dim": 8}')
    vae = diffusers.AutoencoderKL(norm_num_groups=8, block_out_channels=(16,))
    save_file(vae.state_dict(), tmp_path / "vae" / f"diffusion_pytorch_model{variant}.safetensors")
    (tmp_path / "vae" / "config.json").write_text('{"norm_num_groups": 8, "scaling_factor": 0.5}')
    shards = {
        name: f"diffusion_pytorch_model{variant}-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(state)
    }
    for shard in set(shards.values()):
        save_file({name: state[name] for name in state if shards[name] == shard}, tmp_path / "unet" / shard)
    index = f"diffusion_pytorch_model.safetensors.index{variant}.json"
    (tmp_path / "unet" / index).write_text(json.dumps({"weight_map": shards}))
    found = read_checkpoint(tmp_path, "digest")
    assert found.unet is not None and found.vae is not None
    unet = found.unet.load("cpu", torch.float32)
    assert torch.equal(unet.get_parameter("input_blocks.0.0.weight"), state["conv_in.weight"])
    assert sum(tensor.nbytes for tensor in unet.parameters()) == found.unet.nbytes
    assert found.unet.config.latent_scale == 0.5
    found.vae.load("cpu", torch.float32)
    (tmp_path / "unet" / sorted(set(shards.values()))[0]).unlink()
    assert "cannot be read" in checkpoint_problems(tmp_path)[0]


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text('{"unet": []}')
    index = tmp_path / "unet" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    assert "does not name the files" in checkpoint_problems(tmp_path)[0]


def test_other_pipelines_and_empty_folders_are_named(tmp_path: Path) -> None:
    assert "model_index.json: cannot be read" in checkpoint_problems(tmp_path)[0]
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "transformer": []}')
    assert "FluxPipeline is not supported" in checkpoint_problems(tmp_path)[0]
    (tmp_path / "model_index.json").write_text('{"unet": []}')
    assert "holds no .safetensors weights" in checkpoint_problems(tmp_path)[0]


def test_all_tensors_of_a_small_file_are_read(tmp_path: Path) -> None:
    tensors = {"a.alpha": torch.tensor(4.0), "a.lora_down.weight": torch.randn(4, 3), "none": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "lora.safetensors")
    found = dict(read_tensors(tmp_path / "lora.safetensors"))
    assert found.keys() == tensors.keys() == read_header(tmp_path / "lora.safetensors").tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


MEASURE = """
import sys, torch, nodes.diffusion.clip, nodes.diffusion.weights
from nodes.diffusion.checkpoints import read_clip
def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
part = read_clip(sys.argv[1], "digest", "clip_l", "sd1")
before = status("VmHWM")
module = part.load("cpu", getattr(torch, sys.argv[2]))
sum(float(tensor.sum()) for tensor in module.parameters())
held = sum(tensor.nbytes for tensor in module.parameters())
print((status("VmHWM") - before) / held)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory as Linux reports it")
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_loading_takes_little_more_memory_than_the_weights(tmp_path: Path, dtype: str) -> None:
    config = ClipConfig(hidden=512, layers=12, heads=8, intermediate=2048)
    save_file(state_of(config), tmp_path / "clip.safetensors")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "clip.safetensors"), dtype]
    assert (
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) < 1.4
    )  # besides the weights there is one table, mapped
