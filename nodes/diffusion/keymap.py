"""Where each tensor of a model is found in a file: the names of original checkpoints, diffusers folders and open_clip.

Our modules use the names of the original files (LDM and SGM for UNet and VAE, transformers for CLIP). A key map says,
for each of those names, which tensor of the file holds it and how to cut it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nodes.diffusion.architecture import UNetConfig

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding.linear_1": "label_emb.0.0", "class_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
    "conv_norm_out": "out.0", "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
_VAE_ATTENTION = {
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out",
}  # fmt: skip
_OPEN_CLIP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


class Source(NamedTuple):
    """The tensor of a file that holds one of ours.

    Attributes:
        name: the tensor in the file.
        third: 0, 1 or 2 for the first, second or last third of its rows.
        transposed: it is stored with its two axes swapped.
    """

    name: str
    third: int | None = None
    transposed: bool = False

    def cut(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of ours, when that of the tensor in the file is `shape`."""
        if self.third is not None and shape:
            shape = (shape[0] // 3, *shape[1:])
        return shape[::-1] if self.transposed else shape


def unet_sources(names: Iterable[str]) -> dict[str, Source]:
    """Maps our UNet names to those of a diffusers UNet2DConditionModel of any number of levels."""
    names = list(names)
    blocks = unet_blocks(_resnets(names, "down_blocks"), _resnets(names, "up_blocks"), _attended(names, "up_blocks"))
    sources: dict[str, Source] = {}
    for name in names:
        for depth in (5, 4, 3, 2, 1):  # from `down_blocks.0.downsamplers.0.conv` to `conv_in`
            head, rest = _cut(name, depth)
            ours = blocks.get(head) or UNET_ENDS.get(head)
            if ours is not None:
                sources[ours + _renamed_start(rest, _RESNET if ".resnets." in head else {})] = Source(name)
                break
    return sources


def ema_sources(names: Iterable[str]) -> dict[str, Source]:
    """Maps our UNet names to the running averages of its weights in a checkpoint, whose names lack the dots.

    A weight without an average is taken itself. Source: `LitEma` of https://github.com/CompVis/latent-diffusion (MIT).
    """
    names = set(names)
    sources: dict[str, Source] = {}
    for name in names:
        if name.startswith("model.diffusion_model."):
            average = "model_ema." + name.removeprefix("model.").replace(".", "")
            sources[name.removeprefix("model.diffusion_model.")] = Source(average if average in names else name)
    return sources


def unet_blocks(down: Mapping[int, int], up: Mapping[int, int], attended: Iterable[int]) -> dict[str, str]:
    """Maps diffusers' blocks (`down_blocks.1.resnets.0`) to original ones (`input_blocks.4.0`).

    Args:
        down: residual blocks of each level of the encoder.
        up: residual blocks of each level of the decoder, in diffusers' order (lowest resolution first).
        attended: the decoder levels that have transformers; an upsampler comes after them.
    """
    blocks: dict[str, str] = {}
    n = 1
    for level, count in sorted(down.items()):
        for j in range(count):
            blocks[f"down_blocks.{level}.resnets.{j}"] = f"input_blocks.{n + j}.0"
            blocks[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{n + j}.1"
        blocks[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{n + count}.0.op"
        n += count + 1
    n, attended = 0, set(attended)
    for level, count in sorted(up.items()):
        for j in range(count):
            blocks[f"up_blocks.{level}.resnets.{j}"] = f"output_blocks.{n + j}.0"
            blocks[f"up_blocks.{level}.attentions.{j}"] = f"output_blocks.{n + j}.1"
        n += count
        blocks[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{n - 1}.{2 if level in attended else 1}"
    return blocks


def unet_modules(config: UNetConfig, names: Iterable[str]) -> dict[str, str]:
    """Maps the modules in a UNet's blocks to diffusers' names for them, by which LoRA files know them.

    `input_blocks.3.0.in_layers.2` is `down_blocks.1.resnets.0.conv1`.
    """
    counts = config.num_res_blocks
    attended = [i for i, depth in enumerate(reversed(config.transformer_depth)) if depth]
    blocks = unet_blocks(dict(enumerate(counts)), {i: n + 1 for i, n in enumerate(reversed(counts))}, attended)
    blocks |= {name: ours for name, ours in UNET_ENDS.items() if name.startswith("mid_block")}
    theirs = {ours: name for name, ours in blocks.items()}  # an upsampler comes after the attention it stands for
    inside = {ours: name for name, ours in _RESNET.items()}
    modules: dict[str, str] = {}
    for name in names:
        for depth in (4, 3, 2):
            head, rest = _cut(name, depth)
            if head in theirs and (rest or ".op" in head):
                modules[name] = theirs[head] + _renamed_start(rest + ".", inside).rstrip(".")
                break
    return modules


def vae_sources(names: Iterable[str]) -> dict[str, Source]:
    """Maps our VAE names to those of a diffusers AutoencoderKL, with the attention names of any version of it."""
    names = list(names)
    levels = len(_resnets(names, "decoder.up_blocks"))
    sources: dict[str, Source] = {}
    for name in names:
        ours = name
        if found := re.match(r"encoder\.down_blocks\.(\d+)\.(.*)", name):
            ours = f"encoder.down.{found[1]}.{found[2]}"
        elif found := re.match(r"decoder\.up_blocks\.(\d+)\.(.*)", name):
            ours = f"decoder.up.{levels - 1 - int(found[1])}.{found[2]}"
        elif found := re.match(r"(\w+)\.mid_block\.resnets\.(\d)\.(.*)", name):
            ours = f"{found[1]}.mid.block_{int(found[2]) + 1}.{found[3]}"
        elif found := re.match(r"(\w+)\.mid_block\.attentions\.0\.(.*)", name):
            ours = f"{found[1]}.mid.attn_1" + _renamed_start("." + found[2], _VAE_ATTENTION)
        ours = ours.replace(".resnets.", ".block.").replace("samplers.0.", "sample.")
        ours = ours.replace(".conv_shortcut.", ".nin_shortcut.").replace(".conv_norm_out.", ".norm_out.")
        sources[ours] = Source(name)
    return sources


def clip_sources(names: Iterable[str]) -> dict[str, Source]:
    """Maps our CLIP names to those of transformers (old files lack `text_model.`) or of open_clip."""
    names = set(names)
    if "positional_embedding" in names:
        return _open_clip_sources(names)
    sources = {name: Source(name) for name in names}
    for name in names:
        if name.startswith(("embeddings.", "encoder.", "final_layer_norm.")):
            sources["text_model." + name] = sources.pop(name)
        elif name == "text_projection":  # beside transformers' names in files that ComfyUI once saved
            sources["text_projection.weight"] = Source(name, transposed=True)
    return sources


def _open_clip_sources(names: set[str]) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for name in names:
        found = re.match(r"transformer\.resblocks\.(\d+)\.(.*)\.?(weight|bias)$", name)
        if name in _OPEN_CLIP:
            sources[_OPEN_CLIP[name]] = Source(name)
        elif name == "text_projection":  # open_clip multiplies by it from the right
            sources["text_projection.weight"] = Source(name, transposed=True)
        elif found and found[2] == "attn.in_proj_":
            for third, projection in enumerate(("q_proj", "k_proj", "v_proj")):
                ours = f"text_model.encoder.layers.{found[1]}.self_attn.{projection}.{found[3]}"
                sources[ours] = Source(name, third=third)
        elif found and (ours := _OPEN_CLIP_LAYER.get(found[2].rstrip("."))):
            sources[f"text_model.encoder.layers.{found[1]}.{ours}.{found[3]}"] = Source(name)
    return sources


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a 1x1 convolution as that of a linear layer, which holds the same numbers."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _resnets(names: Iterable[str], prefix: str) -> dict[int, int]:
    """The number of residual blocks of each level under `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.resnets\.(\d+)\.")
    counts: dict[int, int] = {}
    for level, block in (map(int, found.groups()) for name in names if (found := pattern.match(name))):
        counts[level] = max(counts.get(level, 0), block + 1)
    return counts


def _attended(names: Iterable[str], prefix: str) -> set[int]:
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.attentions\.")
    return {int(found[1]) for name in names if (found := pattern.match(name))}


def _cut(name: str, depth: int) -> tuple[str, str]:
    """Splits `a.b.c.d` after its first `depth` words: `a.b`, `.c.d`."""
    words = name.split(".")
    return ".".join(words[:depth]), "".join("." + word for word in words[depth:])


def _renamed_start(rest: str, table: Mapping[str, str]) -> str:
    """Renames the first one or two words of `.a.b.c`."""
    for old, new in table.items():
        if rest.startswith(f".{old}."):
            return f".{new}{rest[len(old) + 1 :]}"
    return rest
