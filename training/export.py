"""Puts what runs have made where it ships, and writes the base model as a folder for diffusers.

python -m training.export                       the base model, to nodes/models/checkpoints/starter.safetensors
python -m training.export controlnet outlined   what those runs made, to nodes/models
python -m training.export --diffusers FOLDER    the shipped base model as a folder for diffusers
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from nodes.diffusion import keymap
from nodes.diffusion.text import vocabulary as clip_vocabulary
from training import base, judge, starter, text, vae
from training.pool import RUNS

if TYPE_CHECKING:
    from torch import nn

SHIPPED = {  # by the run that made it
    "controlnet": starter.MODELS / "controlnet" / "starter-edges.safetensors",
    "adapter": starter.MODELS / "controlnet" / "starter-edges-adapter.safetensors",
    "outlined": starter.MODELS / "loras" / "starter-outlined.safetensors",
    "striped": starter.MODELS / "loras" / "starter-striped.safetensors",
    "embedding": starter.MODELS / "embeddings" / "starter-lime.safetensors",
    "hypernetwork": starter.MODELS / "hypernetworks" / "starter-flat.pt",
    "upscaler": starter.MODELS / "upscale_models" / "starter-4x.safetensors",
    "preview": starter.MODELS / "vae_approx" / "starter-preview.safetensors",
    "judge": judge.WEIGHTS,
}


def diffusers_folder(checkpoint: Path, folder: Path) -> None:
    """Writes a starter checkpoint as a folder that `StableDiffusionPipeline.from_pretrained` loads."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tensors = load_file(checkpoint)
    unet_config, vae_config, clip = base.CONFIG, vae.CONFIG, text.CONFIG
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=unet_config.in_channels, out_channels=4,
        block_out_channels=tuple(unet_config.model_channels * mult for mult in unet_config.channel_mult),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=unet_config.num_res_blocks[0], cross_attention_dim=unet_config.context_dim,
        attention_head_dim=unet_config.num_heads, norm_num_groups=unet_config.norm_groups,
    )  # fmt: skip
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=tuple(vae_config.ch * mult for mult in vae_config.ch_mult),
        layers_per_block=vae_config.num_res_blocks, latent_channels=4, norm_num_groups=vae_config.norm_groups,
        sample_size=128, scaling_factor=vae.LATENT_SCALE,
    )  # fmt: skip
    encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=clip.vocab, hidden_size=clip.hidden, intermediate_size=clip.intermediate,
        num_hidden_layers=clip.layers, num_attention_heads=clip.heads, max_position_embeddings=clip.positions,
        hidden_act=clip.activation, projection_dim=clip.hidden, bos_token_id=49406, eos_token_id=49407,
        pad_token_id=49407,
    ))  # fmt: skip
    _fill(unet, keymap.unet_sources(unet.state_dict()), starter.cut(tensors, starter.UNET))
    _fill(autoencoder, keymap.vae_sources(autoencoder.state_dict()), starter.cut(tensors, starter.VAE))
    _fill(encoder, keymap.clip_sources(encoder.state_dict()), starter.cut(tensors, starter.TEXT))
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=autoencoder, text_encoder=encoder, tokenizer=_tokenizer(folder / "tokenizer"), unet=unet,
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(folder)
    print(f"{folder}: for diffusers")


def _fill(module: nn.Module, sources: Mapping[str, keymap.Source], ours: Mapping[str, Tensor]) -> None:
    """Gives a module of diffusers or transformers our weights; a linear layer and a 1x1 convolution hold the same."""
    state = module.state_dict()
    if unknown := set(ours) ^ set(sources):
        raise SystemExit(f"{type(module).__name__} and the checkpoint differ in {sorted(unknown)[:3]}")
    module.load_state_dict({source.name: ours[name].float().reshape(state[source.name].shape)
                            for name, source in sources.items()})  # fmt: skip


def _tokenizer(folder: Path) -> object:
    """CLIP's tokenizer as transformers keeps it."""
    from transformers import CLIPTokenizer

    vocabulary, merges = clip_vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = "\n".join(" ".join(pair) for pair in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", "utf-8")
    end = "<|endoftext|>"
    special = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": end}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def main() -> None:
    """Writes what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m training.export")
    parser.add_argument("names", nargs="*", default=["base"], help=f"runs: base, {', '.join(SHIPPED)}")
    parser.add_argument("--out", type=Path, default=RUNS, help="folder of all runs (default: %(default)s)")
    parser.add_argument("--diffusers", type=Path, help="write the shipped base model as this folder, and nothing else")
    chosen = parser.parse_args()
    if chosen.diffusers:
        diffusers_folder(starter.STARTER, chosen.diffusers)
        return
    for name in chosen.names:
        if name == "base":
            both = load_file(chosen.out / "base" / "base.safetensors")
            decoder = load_file(chosen.out / "vae" / "vae.safetensors")
            starter.write(starter.cut(both, "unet."), starter.cut(both, "text."), decoder, starter.STARTER)
            continue
        if name not in SHIPPED:
            parser.error(f"there is no artefact {name}; there are base, {', '.join(SHIPPED)}")
        target = SHIPPED[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(chosen.out / name / f"{name}{target.suffix}", target)
        print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
