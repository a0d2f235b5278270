"""Saving nodes: what is written is what the original files hold, and loads again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.types import FileRef
from nodegraph.workflow import Workflow
from nodes import merging, saving
from nodes.diffusion.architecture import ClipConfig, UNetConfig, VaeConfig
from nodes.diffusion.checkpoints import Checkpoint, read_checkpoint, read_unet, read_vae
from nodes.diffusion.lora import LoraFile, LoraOverlay, overlaid
from nodes.diffusion.merging import Share, blended
from nodes.diffusion.sampling_patches import DiscreteSampling
from nodes.diffusion.text_encoders import read_encoder
from nodes.diffusion.tiny_vae import TinyVae
from nodes.diffusion.weights import build
from nodes.loaders import load_checkpoint
from nodes.types import ClipValue, ModelValue, VaeValue

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"
STARTER = Path(__file__).parents[2] / "nodes" / "models" / "checkpoints" / "starter.safetensors"
UNET, VAE = "model.diffusion_model.", "first_stage_model."
VAE_CONFIG = VaeConfig(16, (1, 2), 1, norm_groups=8)
SD2 = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 16, None, 8, True)
SDXL = UNetConfig(4, 4, 32, (1, 2), (1, 1), (0, 1), 1, 32, None, 8, True, 24, latent_scale=0.13025)
REFINER = replace(SDXL, transformer_depth=(1, 0))
CLIP = ClipConfig(hidden=16, layers=2, heads=2, intermediate=24)
Tensors = dict[str, Tensor]


def named(module: nn.Module, prefix: str) -> Tensors:
    return {prefix + name: torch.randn_like(tensor).half() for name, tensor in module.state_dict().items()}


def open_clip(prefix: str) -> Tensors:
    """A text encoder as open_clip's `TextTransformer` names and shapes it."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (49408, 16), "positional_embedding": (77, 16), "ln_final.weight": (16,),
        "ln_final.bias": (16,), "text_projection": (16, 12),
    }  # fmt: skip
    for i in range(2):
        for name, shape in {
            "ln_1.weight": (16,), "ln_1.bias": (16,), "ln_2.weight": (16,), "ln_2.bias": (16,),
            "attn.in_proj_weight": (48, 16), "attn.in_proj_bias": (48,), "attn.out_proj.weight": (16, 16),
            "attn.out_proj.bias": (16,), "mlp.c_fc.weight": (24, 16), "mlp.c_fc.bias": (24,),
            "mlp.c_proj.weight": (16, 24), "mlp.c_proj.bias": (16,),
        }.items():  # fmt: skip
            shapes[f"transformer.resblocks.{i}.{name}"] = shape
    return {prefix + name: torch.randn(shape).half() for name, shape in shapes.items()}


def original(family: str) -> Tensors:
    """A small checkpoint of a family in its original layout."""
    torch.manual_seed(0)
    unets = {"sd2": SD2, "sd2_v": SD2, "sdxl": SDXL, "sdxl_refiner": REFINER}
    tensors = named(build(unets[family]), UNET) | named(build(VAE_CONFIG), VAE)
    if family.startswith("sd2"):
        return tensors | open_clip("cond_stage_model.model.")
    if family == "sdxl_refiner":
        return tensors | open_clip("conditioner.embedders.0.model.")
    text = named(build(CLIP), "conditioner.embedders.0.transformer.")
    return tensors | text | open_clip("conditioner.embedders.1.model.")


def written(folder: Path, family: str) -> Path:
    if family in ("sd1", "starter"):
        return TINY if family == "sd1" else STARTER
    clip = {"heads": 2}
    arch = {"unet": {"num_head_channels": 8}, "vae": {"norm_groups": 8}, "clip_l": clip, "clip_h": clip, "clip_g": clip}
    told = {"modelspec.prediction_type": "v"} if family == "sd2_v" else {}
    save_file(original(family), folder / f"{family}.safetensors", {"arch": json.dumps(arch), **told})
    return folder / f"{family}.safetensors"


def loaded(path: Path) -> Any:
    return load_checkpoint(ckpt_name=FileRef(path.name, str(path), path.stem))


def context(folder: Path) -> Any:
    """What the nodes ask of the engine, with files under plain names; notes are kept."""
    told: list[str] = []

    def save(prefix: str, extension: str, write: Any) -> None:
        path = folder / f"{prefix}.{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            write(file)

    return SimpleNamespace(device=torch.device("cpu"), step=lambda i, n: None, metadata=lambda: {"prompt": "{}"},
                           save=save, note=told.append, told=told)  # fmt: skip


def configs(found: Checkpoint) -> list[Any]:
    return [part.config for part in (found.unet, *found.clip, found.vae) if part is not None]


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:  # pyright: ignore[reportGeneralTypeIssues]
        return file.metadata()


def assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


@pytest.mark.parametrize("family", ["sd1", "starter", "sd2", "sd2_v", "sdxl", "sdxl_refiner"])
def test_a_checkpoint_is_saved_in_its_original_layout_and_loads_again(tmp_path: Path, family: str) -> None:
    path = written(tmp_path, family)
    saving.save_checkpoint(
        ctx=context(tmp_path), model=loaded(path).MODEL, clip=loaded(path).CLIP, vae=loaded(path).VAE,
        filename_prefix="out/saved",
    )  # fmt: skip
    saved = load_file(tmp_path / "out" / "saved.safetensors")
    marks = {"v_pred"} if family == "sd2_v" else set()
    assert {name for name, tensor in saved.items() if not tensor.numel()} == marks
    expected = {name: tensor for name, tensor in load_file(path).items() if not name.endswith("position_ids")}
    assert_same({name: tensor for name, tensor in saved.items() if name not in marks}, expected)
    again = read_checkpoint(tmp_path / "out" / "saved.safetensors", "again")
    assert configs(again) == configs(read_checkpoint(path, "first"))
    assert again.unet is not None and again.unet.config.prediction == ("v" if marks else "eps")
    texts = metadata(tmp_path / "out" / "saved.safetensors")
    assert (texts["prompt"], texts["format"], texts["modelspec.title"]) == ("{}", "pt", "saved")


def test_what_is_laid_over_the_weights_is_baked_in_in_the_dtype_of_the_file(tmp_path: Path) -> None:
    lora = LoraFile("lora", str(STARTER.parents[1] / "loras" / "starter-outlined.safetensors"), "lora")
    found = loaded(STARTER)
    (unet,), _ = overlaid(lora, [(found.MODEL.unet, 0.7)])
    text = blended(found.CLIP.encoders[0], found.CLIP.encoders[0], (Share("", 2.0, 0.5),))[0]
    clip = replace(found.CLIP, encoders=(text,))
    saving.save_checkpoint(
        ctx=context(tmp_path), model=ModelValue(unet), clip=clip, vae=found.VAE, filename_prefix="saved"
    )
    saved, plain = load_file(tmp_path / "saved.safetensors"), load_file(STARTER)
    changed = {name for name, tensor in saved.items() if not torch.equal(tensor, plain[name])}
    for name, tensor in unet.load("cpu", torch.float32).state_dict().items():
        assert torch.equal(saved[UNET + name], tensor.to(plain[UNET + name].dtype)), name
    assert changed & {UNET + name for name in LoraOverlay(lora, 0.7).keys(unet)}
    for name in (name for name in plain if name.startswith("cond_stage_model.")):
        torch.testing.assert_close(saved[name], (plain[name].float() * 2.5).to(plain[name].dtype))
    assert not any(name.startswith(VAE) for name in changed)


def test_a_patch_that_ends_in_pure_noise_is_kept_for_v_prediction(tmp_path: Path) -> None:
    unet = loaded(written(tmp_path, "sdxl")).MODEL.unet
    model = ModelValue(replace(unet, config=replace(unet.config, prediction="v")), (DiscreteSampling("v", True),))
    saving.save_model(ctx=context(tmp_path), model=model, filename_prefix="unet")
    again = read_unet(tmp_path / "unet.safetensors", "again")
    assert (again.config.prediction, again.config.zero_terminal_snr) == ("v", True)
    assert all(name.startswith(UNET) for name in load_file(tmp_path / "unet.safetensors").keys() - {"v_pred", "ztsnr"})


def test_text_encoders_are_saved_each_alone_with_the_names_of_transformers(tmp_path: Path) -> None:
    found = loaded(written(tmp_path, "sdxl"))
    saving.save_clip(ctx=context(tmp_path), clip=found.CLIP, filename_prefix="text/mine")
    assert sorted(path.name for path in (tmp_path / "text").iterdir()) == [
        "mine_clip_g.safetensors", "mine_clip_l.safetensors",
    ]  # fmt: skip
    source = original("sdxl")
    prefix = "conditioner.embedders.0.transformer."
    assert_same(
        load_file(tmp_path / "text" / "mine_clip_l.safetensors"),
        {name.removeprefix(prefix): tensor for name, tensor in source.items() if name.startswith(prefix)},
    )
    joined = source["conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"]
    saved = load_file(tmp_path / "text" / "mine_clip_g.safetensors")
    for i, name in enumerate("qkv"):
        assert torch.equal(saved[f"text_model.encoder.layers.1.self_attn.{name}_proj.weight"], joined.chunk(3)[i])
    assert torch.equal(saved["text_projection.weight"], source["conditioner.embedders.1.model.text_projection"].t())
    assert read_encoder(tmp_path / "text" / "mine_clip_l.safetensors", "again").config.heads == 2


def test_a_vae_is_saved_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "sd2")
    saving.save_vae(ctx=context(tmp_path), vae=loaded(path).VAE, filename_prefix="vae")
    expected = {name.removeprefix(VAE): tensor for name, tensor in load_file(path).items() if name.startswith(VAE)}
    assert_same(load_file(tmp_path / "vae.safetensors"), expected)
    assert read_vae(tmp_path / "vae.safetensors", "again").config == VAE_CONFIG


def test_what_has_no_place_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    one, two = loaded(TINY), loaded(written(tmp_path, "sd2"))
    ctx = context(tmp_path)
    with pytest.raises(ValueError, match="clip has clip_h, which a checkpoint of SD1 has not; wire its own"):
        saving.save_checkpoint(ctx=ctx, model=one.MODEL, clip=two.CLIP, vae=one.VAE, filename_prefix="x")
    with pytest.raises(ValueError, match="vae is TAESD, which has no place"):
        saving.save_vae(ctx=ctx, vae=VaeValue(TinyVae("a", None, "", 1.0)), filename_prefix="x")


def test_a_file_is_there_when_it_is_whole_and_carries_the_workflow(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(STARTER).items() if not name.startswith(VAE)}
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    (tmp_path / "models" / "checkpoints" / "whole.safetensors").symlink_to(STARTER)
    arch = json.dumps({"clip_l": {"heads": 4}})
    save_file(tensors, tmp_path / "models" / "checkpoints" / "part.safetensors", {"arch": arch})
    settings = Settings(home=tmp_path, device="cpu", dtype="fp32", cache_dir=None)
    with Session(settings, registry=Registry().with_entry_points()) as session:
        for name in ("part", "whole"):
            nodes = {
                "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": f"{name}.safetensors"}},
                "2": {"class_type": "CheckpointSave", "inputs": {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}},
            }
            running = session.submit(session.prepare(Workflow.of({"nodegraph": 1, "nodes": nodes})))
            running.wait()
            told = [str(error) for error in running.errors.values()]
            assert len(told) == (name == "part")
            assert all("part.safetensors: holds no VAE; load one with VAELoader" in text for text in told)
    (path,) = (tmp_path / "output" / "checkpoints").iterdir()
    assert path.name == "ComfyUI_00001_.safetensors"
    assert_same(load_file(path), load_file(STARTER))
    texts = metadata(path)
    assert texts["modelspec.title"] == "ComfyUI"
    assert json.loads(texts["prompt"])["2"]["class_type"] == "CheckpointSave" and "nodegraph" in texts


def differing(folder: Path) -> tuple[ModelValue, ClipValue, Any]:
    """A checkpoint that differs from the tiny one by matrices of rank 2, in some layers: the differences and it."""
    torch.manual_seed(0)
    first = load_file(TINY)
    other = dict(first)
    for name in CHANGED:
        shape = first[name].shape
        change = torch.randn(shape[0], 2) @ torch.randn(2, shape[1:].numel()) if len(shape) > 1 else torch.randn(shape)
        other[name] = first[name].float() - 0.1 * change.reshape(shape)
    with safe_open(TINY, "pt") as file:  # pyright: ignore[reportGeneralTypeIssues]
        save_file(other, folder / "other.safetensors", file.metadata())
    one, two, ctx = loaded(TINY), loaded(folder / "other.safetensors"), context(folder)
    model = merging.subtract_models(ctx=ctx, model1=one.MODEL, model2=two.MODEL)
    clip = merging.subtract_clips(ctx=ctx, clip1=one.CLIP, clip2=two.CLIP)
    return model, clip, two


TEXT = "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1"
CHANGED = [
    f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", f"{UNET}middle_block.0.in_layers.2.weight",
    f"{UNET}input_blocks.1.1.proj_in.weight", f"{UNET}out.0.weight", f"{UNET}out.2.bias", f"{TEXT}.weight",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "has_bias"), [("standard", True), ("standard", False), ("full_diff", True)])
def test_an_extracted_lora_gives_the_difference_back(tmp_path: Path, kind: str, has_bias: bool) -> None:
    model, clip, other = differing(tmp_path)
    ctx = context(tmp_path)
    saving.save_lora(ctx=ctx, filename_prefix="lora", rank=2, lora_type=kind, bias_diff=has_bias, model_diff=model,
                     text_encoder_diff=clip)  # fmt: skip
    names = load_file(tmp_path / "lora.safetensors").keys()
    assert {name.split(".lora_")[0].split(".diff")[0] for name in names} == {
        name.removeprefix("model.").replace("cond_stage_model.", "text_encoders.clip_l.").rpartition(".")[0]
        for name in CHANGED if has_bias or not name.startswith(f"{UNET}out.")
    }  # fmt: skip
    lora = LoraFile("lora", str(tmp_path / "lora.safetensors"), "lora")
    (unet, text), told = overlaid(lora, [(other.MODEL.unet, 1.0), (other.CLIP.encoders[0], 1.0)])
    assert not told and not ctx.told
    first, second = load_file(TINY), load_file(tmp_path / "other.safetensors")
    for part, prefix in ((unet, UNET), (text, "cond_stage_model.transformer.")):
        for name, tensor in part.load("cpu", torch.float32).state_dict().items():
            wanted, before = first[prefix + name].float(), second[prefix + name].float()
            if has_bias or "out." not in name[:4]:  # float16 holds the change to 11 bits
                error, change = (tensor - wanted).norm(), (wanted - before).norm()
                assert error <= 5e-4 * change + 1e-6 * wanted.norm(), name


def test_an_extraction_of_nothing_or_of_a_whole_model_is_told(tmp_path: Path) -> None:
    one, ctx = loaded(TINY), context(tmp_path)
    nothing = merging.subtract_models(ctx=ctx, model1=one.MODEL, model2=one.MODEL)
    with pytest.raises(ValueError, match="nothing is wired; give model_diff, text_encoder_diff, or both"):
        saving.save_lora(ctx=ctx, lora_type="standard")
    with pytest.raises(ValueError, match="the two models are the same; there is no difference to save"):
        saving.save_lora(ctx=ctx, lora_type="standard", model_diff=nothing)
    saving.save_lora(ctx=ctx, lora_type="standard", rank=1, text_encoder_diff=one.CLIP)
    assert ctx.told == ["the clip_l is a whole model, not a difference; expected one of ModelMergeSubtract"]
