"""The values on links and the literals in widgets. Shapes, ranges and devices: docs/values.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nodegraph.types import Choices, Port, Widget

if TYPE_CHECKING:
    from torch import Tensor
else:  # annotations name tensors; nothing here needs torch
    Tensor = Any

from nodes.diffusion.checkpoints import Part
from nodes.diffusion.control_files import ControlPart
from nodes.diffusion.names import SAMPLERS, SCHEDULERS
from nodes.diffusion.tiny_vae import TinyVae
from nodes.diffusion.upscalers import Upscaler

GuiderKind = Literal["basic", "cfg", "dual", "dual_nested", "perp_neg"]


@dataclass(frozen=True, slots=True)
class LatentValue:
    """A batch of latents, unscaled as the VAE gives them.

    Attributes:
        samples: [B, C, H/8, W/8] float32.
        noise_mask: [B or 1, H, W] or None; 1 = denoise here, 0 = keep.
        batch_index: the place of each item in the batch whose noise it takes, or None.
    """

    samples: Tensor
    noise_mask: Tensor | None = None
    batch_index: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Cond:
    """One encoded prompt and where it applies.

    Attributes:
        tokens: [B, T, D], T a multiple of 77.
        pooled: [B, P] or None.
        options: ComfyUI's further keys (`area`, `strength`, `width`, `start_percent`, ...).
    """

    tokens: Tensor
    pooled: Tensor | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelValue:
    """A denoising UNet: where its weights are, plus patches. Weights are materialised at use."""

    unet: Part
    patches: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class ClipValue:
    """One or two text encoders (SD1, SD2: one; SDXL: CLIP-L and OpenCLIP-G; refiner: G).

    Attributes:
        encoders: their weights.
        layer: -1 for the last layer, -2 for the one before it, ...; None for the family's default.
    """

    encoders: tuple[Part, ...]
    layer: int | None = None
    patches: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class VaeValue:
    """An autoencoder between images and latents: that of a checkpoint, or TAESD in its place."""

    vae: Part | TinyVae


@dataclass(frozen=True, slots=True)
class UpscaleModelValue:
    """A network that enlarges or cleans images."""

    weights: Upscaler


@dataclass(frozen=True, slots=True)
class ControlNetValue:
    """A ControlNet or T2I-Adapter: where its weights are.

    Attributes:
        union_type: the kind of hint a union ControlNet is given, by number; None leaves it to the network.
    """

    net: ControlPart
    union_type: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ControlUse:
    """A ControlNet with what it is to follow. Compared by identity: it holds tensors.

    Attributes:
        hint: [N, H, W, C]; 0..1, and -1 where an inpainting one is to fill.
        start_percent, end_percent: the part of the training steps it acts in.
        mask: [N, H, W] in 0..1, where it acts and how much; None everywhere.
    """

    control: ControlNetValue
    hint: Tensor
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    mask: Tensor | None = None

    def equals(self, other: ControlUse) -> bool:
        """True where both do the same."""
        mine, theirs = ((use.control, use.strength, use.start_percent, use.end_percent) for use in (self, other))
        return mine == theirs and _alike(self.hint, other.hint) and _alike(self.mask, other.mask)


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (one.shape == other.shape and bool((one == other).all()))


@dataclass(frozen=True, slots=True)
class NoiseValue:
    """The noise a latent starts from.

    Attributes:
        seed: what it is drawn from, and what the sampler draws on the way.
        is_drawn: False for none at the start.
        is_each: image k of a batch has the noise of a single image of seed + k; else one draw makes the whole batch.
    """

    seed: int = 0
    is_drawn: bool = True
    is_each: bool = False


@dataclass(frozen=True, slots=True)
class SamplerValue:
    """A sampler: its name and the options of its function."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GuiderValue:
    """What steers a model: which prompts, and how they are joined.

    Attributes:
        kind: how.
        prompts: by side: `positive`, and what the kind takes of `negative`, `middle` and `empty`.
        scales: of the kind.
    """

    model: ModelValue
    kind: GuiderKind
    prompts: dict[str, tuple[Cond, ...]]
    scales: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class StitchValue:
    """Images that something was cut out of, to be put back.

    Attributes:
        image: [B, H, W, C], 0..1, the whole ones.
        weight: [M, h, w] in 0..1, of what was cut out: 1 takes what is put back, 0 keeps the old.
        left, top: where that lay; below 0 where it reaches out of the images.
    """

    image: Tensor
    weight: Tensor
    left: int
    top: int


Image = Annotated[Tensor, Port("IMAGE")]
Mask = Annotated[Tensor, Port("MASK")]
Latent = Annotated[LatentValue, Port("LATENT")]
Conditioning = Annotated[tuple[Cond, ...], Port("CONDITIONING", kin=True)]
Model = Annotated[ModelValue, Port("MODEL", kin=True)]
Clip = Annotated[ClipValue, Port("CLIP", kin=True)]
Vae = Annotated[VaeValue, Port("VAE")]
Noise = Annotated[NoiseValue, Port("NOISE")]
Sampler = Annotated[SamplerValue, Port("SAMPLER")]
Sigmas = Annotated[Tensor, Port("SIGMAS")]
Guider = Annotated[GuiderValue, Port("GUIDER", kin=True)]
ControlNet = Annotated[ControlNetValue, Port("CONTROL_NET", kin=True)]
UpscaleModel = Annotated[UpscaleModelValue, Port("UPSCALE_MODEL")]
Stitch = Annotated[StitchValue, Port("STITCH")]

Seed = Annotated[int, Field(ge=0, le=2**64 - 1), Widget(control_after_generate=True)]
Steps = Annotated[int, Field(ge=1, le=10000)]
Cfg = Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.1, round=0.01)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.01)]
SamplerName = Annotated[str, Choices(SAMPLERS)]
SchedulerName = Annotated[str, Choices(SCHEDULERS)]
