"""What a checkpoint file or diffusers folder holds: its family, its parts, their hyper-parameters. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from nodegraph.devices import DType
from nodegraph.errors import FileProblem
from nodes.diffusion import keymap
from nodes.diffusion.architecture import (
    ClipConfig,
    Family,
    Hints,
    UNetConfig,
    VaeConfig,
    clip_config,
    family_name,
    unet_config,
    unet_family,
    vae_config,
)
from nodes.diffusion.foreign import name_kind, refuse_foreign, refuse_quantised
from nodes.diffusion.headers import FLOATS, PICKLES, Header, TensorEntry, floats, read_header, read_json, sniff
from nodes.diffusion.overlays import Overlay

if TYPE_CHECKING:
    import torch
    from torch import nn

Role = Literal["unet", "vae", "clip_l", "clip_h", "clip_g"]
Layout = Literal["original", "diffusers", "ema"]  # the last: original, with averages of the UNet's weights beside it
C = TypeVar("C", bound=UNetConfig | VaeConfig | ClipConfig)

UNET, VAE = "model.diffusion_model.", "first_stage_model."
_EMA = "model_ema.diffusion_modelinput_blocks00weight"
CLIPS: tuple[tuple[str, Role, Family], ...] = (
    ("cond_stage_model.transformer.", "clip_l", "sd1"),
    ("cond_stage_model.model.", "clip_h", "sd2"),
    ("conditioner.embedders.0.model.", "clip_g", "sdxl_refiner"),
    ("conditioner.embedders.0.transformer.", "clip_l", "sdxl"),
    ("conditioner.embedders.1.model.", "clip_g", "sdxl"),
)
"""What the names of a text encoder begin with, its role, and the family that has it there; the last match decides."""
_NAMES: Mapping[Role, str] = {"unet": "UNet", "vae": "VAE", "clip_l": "text encoder (CLIP-L)",
                              "clip_h": "text encoder (OpenCLIP-H)", "clip_g": "text encoder (OpenCLIP-G)"}  # fmt: skip
_SD2_V_STD = 0.09  # SD2 files do not say what they predict; of 4 channels this norm's spread tells (as in ComfyUI)
_SD2_V_TENSOR = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True, slots=True)
class Part(Generic[C]):
    """One network of a checkpoint: where its weights are and what it takes to build it. Holds no tensors.

    Attributes:
        path: the file, or the subfolder of a diffusers folder.
        digest: digest of the content of the file it came in.
        prefix: what the names of its tensors begin with in the file.
        nbytes: bytes of its tensors in the file; 0 when the file lacks the part.
        parameters: numbers in its tensors.
        dtype: what it is to be computed in; `auto` leaves that to the session.
        overlays: what is done to its weights when they are loaded, in this order.
    """

    path: str
    digest: str
    role: Role
    family: Family
    config: C
    prefix: str = ""
    layout: Layout = "original"
    nbytes: int = 0
    parameters: int = 0
    dtype: DType = "auto"
    overlays: tuple[Overlay, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Equal for parts that load to equal modules: content, role and configuration; not where the file lies."""
        if not self.overlays:
            return self.base
        done = "\0".join((self.base, *(overlay.fingerprint for overlay in self.overlays)))
        return f"{self.role}-{hashlib.sha256(done.encode()).hexdigest()[:32]}"

    @property
    def base(self) -> str:
        """The fingerprint without overlays."""
        fields = self.digest, self.role, self.family, self.config, self.prefix, self.layout
        return f"{self.role}-{hashlib.sha256(repr(fields).encode()).hexdigest()[:32]}"

    def load(self, device: torch.device | str, dtype: torch.dtype, variants: Sequence[Any] = ()) -> nn.Module:
        """Builds the network with its weights on `device` in `dtype`; imports torch.

        Args:
            device: where to.
            dtype: of its weights.
            variants: networks of the same base, loaded there; tensors that are to be the same are shared with them.

        Raises:
            FileProblem: the file lacks the part or some of its tensors, or an overlay is none for it.
        """
        from nodes.diffusion.weights import load_part

        return load_part(self, device, dtype, variants)

    def overlaid(self, overlay: Overlay) -> Part[C]:
        """The part with one overlay more."""
        return replace(self, overlays=(*self.overlays, overlay))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of a file or folder; None or () for those it lacks."""

    family: Family
    unet: Part[UNetConfig] | None
    clip: tuple[Part[ClipConfig], ...]
    vae: Part[VaeConfig] | None


def read_checkpoint(path: str | Path, digest: str) -> Checkpoint:
    """Reads what an original single file or a diffusers folder holds.

    Raises:
        FileProblem: it is missing, damaged, of an unsupported family or not a checkpoint; the sentence says which.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, digest)
    header = read_header(path)
    refuse_foreign(path.name, header.tensors, "a checkpoint")
    if UNET + "input_blocks.0.0.weight" not in header.tensors:
        raise name_kind(path.name, header.tensors, "a checkpoint")
    clips = [row for row in CLIPS if any(name.startswith(row[0]) for name in header.tensors)]
    family: Family | None = clips[-1][2] if clips else None
    if family and ("xl" in family) != (UNET + "label_emb.0.0.weight" in header.tensors):
        raise FileProblem(
            f"{path.name}: its text encoder is one of {family} and its UNet is not, which is not supported"
        )
    unet = read_unet(path, digest, family, header)
    clip = tuple(read_clip(path, digest, role, unet.family, prefix, header) for prefix, role, _ in clips)
    has_vae = any(name.startswith(VAE) for name in header.tensors)
    return Checkpoint(unet.family, unet, clip, read_vae(path, digest, unet.family, header) if has_vae else None)


def read_unet(
    path: str | Path, digest: str, family: Family | None = None, header: Header | None = None
) -> Part[UNetConfig]:
    """Reads a UNet: of a checkpoint, or alone in a file with original or diffusers names.

    Raises:
        FileProblem: the file is damaged or holds none.
    """
    path = Path(path)
    header = header or read_header(path)
    refuse_foreign(path.name, header.tensors, "a UNet")
    is_averaged = _EMA in header.tensors and UNET + "input_blocks.0.0.weight" in header.tensors
    prefix = UNET if not is_averaged and any(name.startswith(UNET) for name in header.tensors) else ""
    entries = _under(header.tensors, prefix)
    is_converted = "down_blocks.0.resnets.0.conv1.weight" in entries
    layout: Layout = "ema" if is_averaged else "diffusers" if is_converted else "original"
    found = sources("unet", layout, entries)
    own = {ours: entries[source.name] for ours, source in found.items()}
    shapes = {ours: entry.shape for ours, entry in own.items()}
    if "input_blocks.0.0.weight" not in shapes:
        raise name_kind(path.name, header.tensors, "a UNet")
    refuse_quantised(path.name, own.values())
    family = family or unet_family(shapes)
    arch = arch_of(header).get("unet", {})
    told = header.metadata.get("modelspec.prediction_type") or arch.get("prediction")
    if not told and family == "sd2" and _SD2_V_TENSOR in own and shapes["input_blocks.0.0.weight"][1] == 4:
        told = _sd2_prediction(own[_SD2_V_TENSOR], prefix + found[_SD2_V_TENSOR].name)
    shapes.update((name, ()) for name in ("v_pred", "ztsnr") if name in header.tensors)
    config = unet_config(shapes, family, {**arch, "prediction": told}, path.name)
    return Part(str(path), digest, "unet", family, config, prefix, layout, *_size(own))


def read_vae(path: str | Path, digest: str, family: Family = "sd1", header: Header | None = None) -> Part[VaeConfig]:
    """Reads an autoencoder: of a checkpoint, or alone in a file with original or diffusers names.

    Raises:
        FileProblem: the file is damaged or holds none.
    """
    path = Path(path)
    header = header or read_header(path)
    prefix = VAE if any(name.startswith(VAE) for name in header.tensors) else ""
    entries = _under(header.tensors, prefix)
    if "decoder.conv_in.weight" not in entries:
        refuse_foreign(path.name, header.tensors, "a VAE")
        raise name_kind(path.name, header.tensors, "a VAE")
    refuse_quantised(path.name, entries.values())
    layout: Layout = "diffusers" if any(name.startswith("decoder.up_blocks.") for name in entries) else "original"
    config = vae_config(_shapes("vae", layout, entries), arch_of(header).get("vae", {}), path.name)
    return Part(str(path), digest, "vae", family, config, prefix, layout, *_size(entries))


def read_clip(
    path: str | Path, digest: str, role: Role, family: Family, prefix: str = "", header: Header | None = None
) -> Part[ClipConfig]:
    """Reads a text encoder: of a checkpoint, or alone in a file with the names of transformers or open_clip.

    Raises:
        FileProblem: the file is damaged or holds none.
    """
    path = Path(path)
    header = header or read_header(path)
    entries = {name: entry for name, entry in _under(header.tensors, prefix).items() if not name.startswith("vis")}
    if not any("token_embedding.weight" in name for name in entries):
        refuse_foreign(path.name, header.tensors, "a text encoder")
        raise name_kind(path.name, header.tensors, "a text encoder")
    refuse_quantised(path.name, _matrices(entries))
    config = clip_config(_shapes(role, "original", entries), role, family, arch_of(header).get(role, {}), path.name)
    return Part(str(path), digest, role, family, config, prefix, "original", *_size(entries))


def lacking(path: str | Path, digest: str, role: Role, family: Family) -> Part[Any]:
    """A part that the checkpoint lacks: it can be wired, and says what is missing when it is used."""
    config = VaeConfig() if role == "vae" else ClipConfig()
    return Part(str(path), digest, role, family, config, f"(no {_NAMES[role]})")


def checkpoint_problems(path: str | Path) -> list[str]:
    """What is wrong with a checkpoint, found without torch, so that a plan can say so. A pickle is only sniffed at."""
    try:
        if Path(path).suffix.lower() in PICKLES:
            sniff(Path(path))
        else:
            read_checkpoint(path, "")
    except FileProblem as problem:
        return [str(problem)]
    return []


@lru_cache(maxsize=64)
def family_of(path: str, digest: str) -> str | None:
    """The family of a checkpoint, for people, with the width of its prompts where that is unusual; no torch.

    None for a pickle, which is not looked into before the run.

    Raises:
        FileProblem: see `read_checkpoint`.
    """
    if Path(path).suffix.lower() in PICKLES:
        return None
    found = read_checkpoint(path, digest)
    return family_name(found.family, None if found.unet is None else found.unet.config.context_dim)


def lacks(part: Part[Any]) -> FileProblem:
    """What to tell the user who uses a part that the file has not."""
    loader = {"unet": "UNETLoader", "vae": "VAELoader"}.get(part.role, "CLIPLoader")
    return FileProblem(f"{Path(part.path).name}: holds no {_NAMES[part.role]}; load one with {loader} and wire that")


def _read_folder(path: Path, digest: str) -> Checkpoint:
    """A folder as diffusers saves it: model_index.json and a subfolder for each part."""
    index = read_json(path / "model_index.json")
    if "unet" not in index or "transformer" in index:
        raise FileProblem(
            f"{path.name}: a {index.get('_class_name')} is not supported; SD1, SD2, SDXL and its refiner are"
        )
    entries, config = _component(path / "unet")
    shapes = _shapes("unet", "diffusers", entries)
    family = unet_family(shapes)
    scheduler = path / "scheduler" / "scheduler_config.json"
    plan = read_json(scheduler) if scheduler.exists() else {}
    vae, scale = None, None
    if (path / "vae").is_dir():
        vae_entries, vae_json = _component(path / "vae")
        scale, hints = vae_json.get("scaling_factor"), {"norm_groups": vae_json.get("norm_num_groups")}
        vae_found = vae_config(_shapes("vae", "diffusers", vae_entries), hints, f"{path.name}/vae")
        vae = Part(str(path / "vae"), digest, "vae", family, vae_found, "", "diffusers", *_size(vae_entries))
    hints = {**_unet_hints(config, path.name), "prediction": plan.get("prediction_type"), "latent_scale": scale}
    found = unet_config(shapes, family, hints, f"{path.name}/unet")
    found = replace(found, zero_terminal_snr=plan.get("rescale_betas_zero_snr") is True)
    unet = Part(str(path / "unet"), digest, "unet", family, found, "", "diffusers", *_size(entries))
    return Checkpoint(family, unet, _folder_clips(path, digest, family), vae)


def _folder_clips(path: Path, digest: str, family: Family) -> tuple[Part[ClipConfig], ...]:
    first: Role = "clip_h" if family == "sd2" else "clip_l"
    rows: tuple[tuple[str, Role], ...] = (("text_encoder", first), ("text_encoder_2", "clip_g"))
    parts: list[Part[ClipConfig]] = []
    for name, role in [row for row in rows if (path / row[0]).is_dir()]:
        entries, config = _component(path / name)
        hints = {"heads": config.get("num_attention_heads"), "act": config.get("hidden_act")}
        found = clip_config(_shapes(role, "diffusers", entries), role, family, hints, f"{path.name}/{name}")
        if role == "clip_h":  # such folders leave out the last layer, which SD2 does not use
            found = replace(found, default_layer=-1)
        parts.append(Part(str(path / name), digest, role, family, found, "", "diffusers", *_size(entries)))
    return tuple(parts)


def component_files(path: Path) -> list[Path]:
    """The weight files of a diffusers subfolder: one, or the shards of one; full precision before fp16.

    Raises:
        FileProblem: there are none, or shards are missing.
    """
    stems = ("diffusion_pytorch_model", "model")
    for stem in [stem + variant for variant in ("", ".fp16") for stem in stems]:
        name, variant = stem.removesuffix(".fp16"), ".fp16" if stem.endswith(".fp16") else ""
        if (path / f"{stem}.safetensors").exists():
            return [path / f"{stem}.safetensors"]
        for index in (f"{stem}.safetensors.index.json", f"{name}.safetensors.index{variant}.json"):
            if (path / index).exists():
                shards = read_json(path / index).get("weight_map")
                if not isinstance(shards, dict) or any(Path(str(shard)).name != shard for shard in shards.values()):
                    raise FileProblem(f"{path.name}/{index}: does not name the files of the model; download it again")
                return [path / shard for shard in sorted(set(shards.values()))]
    raise FileProblem(f"{path.parent.name}/{path.name}: holds no .safetensors weights; download those of the model")


def sources(role: Role, layout: Layout, names: Iterable[str]) -> dict[str, keymap.Source]:
    """Where each of our tensors is found among `names`."""
    if role not in ("unet", "vae"):
        return keymap.clip_sources(names)
    if layout == "original":
        return {name: keymap.Source(name) for name in names}
    if layout == "ema":
        return keymap.ema_sources(names)
    return keymap.unet_sources(names) if role == "unet" else keymap.vae_sources(names)


def part_entries(part: Part[Any]) -> dict[str, TensorEntry]:
    """The tensors of a part as they stand in its file or files, by name without the prefix."""
    path = Path(part.path)
    if path.is_dir():
        return _component(path)[0]
    return _under(read_header(path).tensors, part.prefix)


def _component(path: Path) -> tuple[dict[str, TensorEntry], dict[str, Any]]:
    """The tensors and the configuration of a diffusers subfolder."""
    entries: dict[str, TensorEntry] = {}
    for file in component_files(path):
        entries.update(read_header(file).tensors)
    refuse_quantised(f"{path.parent.name}/{path.name}", _matrices(entries))
    config = path / "config.json"
    return entries, read_json(config) if config.exists() else {}


def _unet_hints(config: Mapping[str, Any], where: str) -> Hints:
    """Head counts and norm groups of a diffusers UNet.

    Its `attention_head_dim` is, by an old mistake, the number of heads; one number for every level is SD1's way, a
    list that keeps the width of a head constant is SD2's and SDXL's.
    """
    heads, widths = (
        config.get("num_attention_heads") or config.get("attention_head_dim"),
        config.get("block_out_channels"),
    )
    hints = {"norm_groups": config.get("norm_num_groups")}
    if not isinstance(heads, list) or not isinstance(widths, list):
        return {**hints, "num_heads": heads}
    sizes = {width // max(count, 1) for width, count in zip(widths, heads, strict=False)}
    if len(sizes) != 1:
        raise FileProblem(f"{where}: its UNet has attention heads of several widths, which is not supported")
    return {**hints, "num_head_channels": sizes.pop()}


def arch_of(header: Header) -> dict[str, dict[str, Any]]:
    """The JSON under `arch` in the metadata, or {}; other tools may use the key for something else."""
    try:
        arch = json.loads(header.metadata.get("arch", "{}"))
    except (TypeError, ValueError, RecursionError):
        return {}
    return {key: value for key, value in arch.items() if isinstance(value, dict)} if isinstance(arch, dict) else {}


def _sd2_prediction(entry: TensorEntry, name: str) -> str:
    return "v" if entry.dtype in FLOATS and statistics.pstdev(floats(entry, name)) > _SD2_V_STD else "eps"


def _under(tensors: Mapping[str, TensorEntry], prefix: str) -> dict[str, TensorEntry]:
    return {name[len(prefix) :]: entry for name, entry in tensors.items() if name.startswith(prefix)}


def _shapes(role: Role, layout: Layout, entries: Mapping[str, TensorEntry]) -> dict[str, tuple[int, ...]]:
    """Shapes by original names. A text encoder keeps open_clip's names: they are a layout of its own."""
    if "positional_embedding" in entries:
        return {name: entry.shape for name, entry in entries.items()}
    return {ours: entries[source.name].shape for ours, source in sources(role, layout, entries).items()}


def _matrices(entries: Mapping[str, TensorEntry]) -> list[TensorEntry]:
    """The weights among the tensors of a text encoder; `position_ids` are integers in any file."""
    return [entry for name, entry in entries.items() if name.endswith("weight")]


def _size(entries: Mapping[str, TensorEntry]) -> tuple[int, int]:
    """Bytes and numbers in some tensors."""
    return sum(entry.nbytes for entry in entries.values()), sum(math.prod(entry.shape) for entry in entries.values())
