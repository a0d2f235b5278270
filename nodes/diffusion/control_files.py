"""What a ControlNet or T2I-Adapter file holds: its kind, its layout, its hyper-parameters. Imports no torch."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nodegraph.devices import DType
from nodegraph.errors import FileProblem
from nodes.diffusion import keymap
from nodes.diffusion.architecture import Family, Shapes, UNetConfig, unet_config, unet_family
from nodes.diffusion.checkpoints import Part, arch_of, family_name
from nodes.diffusion.foreign import name_kind, refuse_foreign, refuse_quantised
from nodes.diffusion.headers import PICKLES, Header, TensorEntry, read_header, sniff

if TYPE_CHECKING:
    import torch
    from torch import nn

Kind = Literal["controlnet", "difference", "control_lora", "adapter"]
Names = Mapping[str, str]  # our names by those of the file

LORA_MARK, DIFFERENCE_MARK = "lora_controlnet", "difference"
NEEDS_UNET: Mapping[Kind, str] = {
    "difference": "holds differences from a model's weights; load it with DiffControlNetLoader",
    "control_lora": "holds changes of a model's weights; use it with a sampler, which has the model",
}
_KNOWN = "of a supported kind; ControlNets, control-LoRAs and T2I-Adapters for SD1, SD2 and SDXL are"
_PREFIX = "control_model."
_ADAPTER = "adapter."
_POOLED = ("_shuffle", "_shuffle_fp16")  # ends of file names
_REFINER_VECTOR = 2560  # width of what the refiner is told besides the prompt; SDXL's is 2816
_XL_INPUTS = (256, 768)  # one or three channels of 16 x 16 pixels; the others see 8 x 8
_SD2_WIDTH = 1024  # of prompts
_ANY_WIDTH = 2048  # the same, where no layer looks at them


@dataclass(frozen=True, slots=True)
class UnionConfig:
    """What a union ControlNet has more, which knows several kinds of hints.

    Attributes:
        types: how many kinds.
        layers: transformer layers over the features of the hint.
        features: of each kind's mark, as it is embedded.
    """

    types: int
    layers: int = 1
    features: int = 256


@dataclass(frozen=True, slots=True)
class ControlNetConfig:
    """A ControlNet (Zhang et al. 2023, arXiv:2302.05543).

    Attributes:
        unet: the UNet whose encoder it copies; None for that of the model it is used with. `middle_depth` is -1 where
            its middle block is a single residual block.
        hint_channels: of the pictures it sees.
        hint_widths: of the layers that see them first.
        union: of a union ControlNet.
    """

    unet: UNetConfig | None
    hint_channels: int
    hint_widths: tuple[int, ...]
    union: UnionConfig | None = None


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A T2I-Adapter (Mou et al. 2023, arXiv:2302.08453).

    Attributes:
        channels: of each level.
        blocks: residual blocks of each level.
        hint_channels: of the pictures it sees.
        kernel: of some convolutions, 1 or 3.
        is_light: of the light kind, whose levels are narrow inside.
        is_xl: for SDXL.
        is_strided: levels halve by a convolution, not by an average.
    """

    channels: tuple[int, ...]
    blocks: int = 2
    hint_channels: int = 3
    kernel: int = 1
    is_light: bool = False
    is_xl: bool = False
    is_strided: bool = False


@dataclass(frozen=True, slots=True)
class ControlPart:
    """A ControlNet or T2I-Adapter: where its weights are and what it takes to build it. Holds no tensors.

    Attributes:
        path: the file.
        digest: of its content.
        kind: a `difference` is to be added to a UNet's weights; a `control_lora` changes them by low-rank products.
        family: of the models it is for; None where that cannot be told.
        width: of the prompts it sees; None for any.
        is_pooled: what it adds is the same everywhere in a picture.
        unet: whose weights it starts from, of the last two kinds.
    """

    path: str
    digest: str
    kind: Kind
    family: Family | None
    config: ControlNetConfig | AdapterConfig
    width: int | None = None
    is_pooled: bool = False
    nbytes: int = 0
    dtype: DType = "auto"
    unet: Part[UNetConfig] | None = None

    @property
    def role(self) -> str:
        """What it is."""
        return "controlnet"

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights: of its file, and of the UNet they start from."""
        fields = self.digest, self.kind, self.config, self.unet and self.unet.fingerprint
        return f"controlnet-{hashlib.sha256(repr(fields).encode()).hexdigest()[:32]}"

    @property
    def base(self) -> str:
        """It has no variants."""
        return self.fingerprint

    def over(self, unet: Part[UNetConfig]) -> ControlPart:
        """Itself as it is used with a UNet: a control-LoRA takes its weights, whatever else has its own.

        Of a UNet that sees further channels, as those for inpainting do, it takes what sees the noisy latents.
        """
        if self.kind != "control_lora" or not isinstance(self.config, ControlNetConfig):
            return self
        seen = replace(unet.config, in_channels=unet.config.out_channels)
        size = self.nbytes + unet.nbytes // 2  # the encoder has about half of a UNet's weights
        return replace(self, unet=unet, config=replace(self.config, unet=seen), nbytes=size)

    def load(self, device: torch.device | str, dtype: torch.dtype, variants: Sequence[Any] = ()) -> nn.Module:
        """Builds the network with its weights on `device` in `dtype`; imports torch.

        Raises:
            FileProblem: tensors are missing or of other shapes, or it is of another family than its UNet.
        """
        from nodes.diffusion.control_weights import load_control

        return load_control(self, device, dtype)


def read_control(path: str | Path, digest: str) -> ControlPart:
    """Reads what a file of a ControlNet or T2I-Adapter holds, in original or diffusers names.

    Raises:
        FileProblem: it is missing, damaged, of an unsupported family or something else; the sentence says which.
    """
    path = Path(path)
    header = read_header(path)
    names = our_names(header.tensors)
    shapes = {ours: header.tensors[name].shape for name, ours in names.items()}
    if "zero_convs.0.0.weight" in shapes and "input_hint_block.0.weight" in shapes:
        kind, width, config = _controlnet(shapes, header, path.name)
        family = _family(shapes, width)
    elif any(re.match(r"body\.0\.(body\.0\.)?block1\.weight", name) for name in shapes):
        kind, width, config = "adapter", None, _adapter(shapes, path.name)
        family = "sdxl" if config.is_xl else None
    elif "zero_convs.0.0.weight" in shapes or "input_hint_block.0.weight" in shapes:
        raise FileProblem(f"{path.name}: is a ControlNet that lacks some of its tensors; download it again")
    else:
        refuse_foreign(path.name, header.tensors, "a ControlNet")
        raise name_kind(path.name, header.tensors, "a ControlNet", _KNOWN)
    entries = [header.tensors[name] for name in names]
    refuse_quantised(path.name, entries)
    return ControlPart(
        str(path), digest, kind, family, config, width, is_pooled(path.name), sum(entry.nbytes for entry in entries)
    )


def is_pooled(name: str) -> bool:
    """True for a file so named where what it adds is the same everywhere: nothing else tells those for shuffling."""
    return Path(name).stem.endswith(_POOLED)


def only_with_model(path: str | Path) -> list[str]:
    """What to say of a file that is loaded without a model and needs one."""
    if Path(path).suffix.lower() in PICKLES or read_control(path, "").kind != "difference":
        return []
    return [f"{Path(path).name}: {NEEDS_UNET['difference']}"]


def control_problems(path: str | Path) -> list[str]:
    """What is wrong with such a file, found without torch, so that a plan can say so. A pickle is only sniffed at."""
    try:
        if Path(path).suffix.lower() in PICKLES:
            sniff(Path(path))
        else:
            read_control(path, "")
    except FileProblem as problem:
        return [str(problem)]
    return []


@lru_cache(maxsize=64)
def control_family(path: str, digest: str) -> str | None:
    """The family of models that a file is for, as checkpoints name theirs; None where it cannot be told without torch.

    Raises:
        FileProblem: see `read_control`.
    """
    if Path(path).suffix.lower() in PICKLES:
        return None
    found = read_control(path, digest)
    return None if found.family is None else family_name(found.family, found.width)


def our_names(tensors: Mapping[str, TensorEntry]) -> dict[str, str]:
    """Our names of a file's tensors, by theirs; those that are of no use are left out."""
    if any(name.startswith(_PREFIX) for name in tensors):
        return {name: name[len(_PREFIX) :] for name in tensors if name.startswith(_PREFIX)}
    if "controlnet_cond_embedding.conv_in.weight" in tensors:
        return _diffusers_names(tensors)
    cut = {name: name.removeprefix(_ADAPTER) for name in tensors}
    if any(".resnets." in name for name in cut.values()):
        return _diffusers_adapter_names(cut)
    return {name: ours for name, ours in cut.items() if ours not in (LORA_MARK, DIFFERENCE_MARK)}


def _diffusers_names(tensors: Mapping[str, TensorEntry]) -> dict[str, str]:
    names = {source.name: ours for ours, source in keymap.unet_sources(tensors).items()}
    count = len({name.split(".")[2] for name in tensors if name.startswith("controlnet_cond_embedding.blocks.")})
    last = 2 + 2 * count
    for name in tensors:
        kind = name.rpartition(".")[2]
        if found := re.match(r"controlnet_down_blocks\.(\d+)\.", name):
            names[name] = f"zero_convs.{found[1]}.0.{kind}"
        elif found := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)\.", name):
            names[name] = f"input_hint_block.{2 * int(found[1]) + 2}.{kind}"
        elif name.startswith("controlnet_cond_embedding."):
            names[name] = f"input_hint_block.{0 if 'conv_in' in name else last}.{kind}"
        elif name.startswith("controlnet_mid_block."):
            names[name] = f"middle_block_out.0.{kind}"
        elif name.startswith(("task_embedding", "transformer_layes.", "spatial_ch_projs.", "control_add_embedding.")):
            names[name] = name
    return names


def _diffusers_adapter_names(cut: Names) -> dict[str, str]:
    """Diffusers numbers blocks within each level, and has the widening convolution of a level there."""
    blocks = 1 + max(int(found[1]) for name in cut.values() if (found := re.match(r"body\.0\.resnets\.(\d+)", name)))
    is_light = any(".out_conv." in name for name in cut.values())
    names: dict[str, str] = {}
    for name, ours in cut.items():
        if found := re.match(r"body\.(\d+)\.resnets\.(\d+)\.(.*)", ours):
            level, block = int(found[1]), int(found[2])
            ours = f"body.{level}.body.{block}.{found[3]}" if is_light else f"body.{level * blocks + block}.{found[3]}"
        elif not is_light and (found := re.match(r"body\.(\d+)\.(in_conv.*)", ours)):
            ours = f"body.{int(found[1]) * blocks}.{found[2]}"
        names[name] = ours
    return names


def _controlnet(shapes: Shapes, header: Header, where: str) -> tuple[Kind, int | None, ControlNetConfig]:
    """Kind, width of prompts and hyper-parameters of a ControlNet."""
    count = sum(bool(re.fullmatch(r"input_hint_block\.\d+\.weight", name)) for name in shapes)
    hints = [shapes.get(f"input_hint_block.{2 * i}.weight", ()) for i in range(count)]
    if any(len(shape) != 4 for shape in hints):
        raise FileProblem(f"{where}: the layers of its hint are missing or misshapen; download the file again")
    widths = tuple(shape[0] for shape in hints[:-1])
    is_lora = LORA_MARK in header.tensors
    ends = (".attn2.to_k.down", ".attn2.to_k.weight") if is_lora else ".attn2.to_k.weight"
    width = next((shape[1] for name, shape in shapes.items() if name.endswith(ends) and len(shape) > 1), None)
    if is_lora:
        return "control_lora", width, ControlNetConfig(None, hints[0][1], widths)
    # What a UNet has and a ControlNet lacks, so that both are read alike: the last layer, and perhaps all attention.
    stand_ins = {"out.2.weight": shapes.get("input_blocks.0.0.weight", (0,))[1:], "attn2": (1, _ANY_WIDTH)}
    family = _family(shapes, width)
    unet = unet_config({**stand_ins, **shapes}, family, arch_of(header).get("unet", {}), where)
    if "middle_block.1.proj_in.weight" not in shapes:
        unet = replace(unet, middle_depth=-1)
    union = None
    if "control_add_embedding.linear_1.weight" in shapes:
        types = shapes["task_embedding"][0]
        layers = len({name.split(".")[1] for name in shapes if name.startswith("transformer_layes.")})
        union = UnionConfig(types, layers, shapes["control_add_embedding.linear_1.weight"][1] // types)
    kind = "difference" if DIFFERENCE_MARK in header.tensors else "controlnet"
    return kind, width, ControlNetConfig(unet, hints[0][1], widths, union)


def _family(shapes: Shapes, width: int | None) -> Family:
    """The family of a ControlNet: SDXL's are told a vector; the small ones have no layer by which a UNet is told."""
    vector = next((shapes[name] for name in ("label_emb.0.0.weight", "label_emb.0.0.down") if name in shapes), None)
    if vector is not None:
        return "sdxl_refiner" if vector[1] == _REFINER_VECTOR else "sdxl"
    if any(name.endswith(".attn2.to_k.down") for name in shapes):
        return "sd2" if width == _SD2_WIDTH else "sd1"
    return unet_family(shapes)


def _adapter(shapes: Shapes, where: str) -> AdapterConfig:
    """The hyper-parameters of a T2I-Adapter."""
    is_light = "conv_in.weight" not in shapes
    first = shapes.get("body.0.in_conv.weight" if is_light else "conv_in.weight", ())
    count = next(n for n in itertools.count() if not any(name.startswith(f"body.{n}.") for name in shapes))
    ends = "out_conv" if is_light else "block1"
    widths = [shapes.get(f"body.{n}.{ends}.weight", ()) for n in range(count)]
    if len(first) != 4 or not all(len(shape) == 4 for shape in widths):
        raise FileProblem(f"{where}: is a T2I-Adapter with tensors missing or misshapen; download the file again")
    is_xl = not is_light and first[1] in _XL_INPUTS
    hint_channels = first[1] // (256 if is_xl else 64)
    outs = [shape[0] for shape in widths]
    if is_light:
        inner = [name for name in shapes if re.fullmatch(r"body\.0\.body\.\d+\.block1\.weight", name)]
        return AdapterConfig(tuple(outs), len(inner), hint_channels, 1, True)
    kernel = shapes.get("body.0.block2.weight", (0, 0, 1))[2]
    is_strided = any(name.endswith("down_opt.op.weight") for name in shapes)
    return AdapterConfig(tuple(outs[::2]), 2, hint_channels, kernel, False, is_xl, is_strided)
