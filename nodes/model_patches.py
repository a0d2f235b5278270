"""Patches of a model: what it is to do otherwise. Each gives a model with one more; the given one stays as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Port, Widget
from nodes.types import Conditioning, Fraction, Model, ModelValue

if TYPE_CHECKING:
    from nodes.diffusion.latent_operations import LatentOperation as OperationValue
else:
    OperationValue = Any

Operation = Annotated[OperationValue, Port("LATENT_OPERATION")]
Strength = Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.01)]
Percent = Annotated[float, Field(ge=0.0, le=1.0), Widget(step=0.001)]
Scale = Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.01)]
Method = Annotated[str, Choices(("bicubic", "nearest-exact", "bilinear", "area", "bislerp"))]
Continuous = Annotated[str, Choices(("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow"))]
_DISCRETE = {"eps": "eps", "v_prediction": "v", "lcm": "lcm", "x0": "x0", "img_to_img": "image"}
_CONTINUOUS = {"v_prediction": "v", "edm": "edm", "eps": "eps"}


class Patched(NamedTuple):
    """A model with a patch."""

    patched_model: Model


def _continuous_problems(
    *, sampling: str = "eps", sigma_max: float = 120.0, sigma_min: float = 0.002, **_: object
) -> list[str]:
    found = [] if sampling in _CONTINUOUS else [
        f"sampling {sampling!r} is for models that are not supported; expected one of {', '.join(_CONTINUOUS)}"
    ]  # fmt: skip
    if not 0 < sigma_min < sigma_max:
        found.append(f"sigma_min is {sigma_min} and sigma_max {sigma_max}; expected 0 < min < max")
    return found


@node("ModelSamplingDiscrete", category="advanced/model")
def sampling_discrete(
    *, model: Model, sampling: Annotated[str, Choices(tuple(_DISCRETE))], zsnr: bool = False
) -> Model:
    """Read what a UNet returns otherwise, for checkpoints trained otherwise than their family.

    Args:
        model: The UNet.
        sampling: What it predicts: noise, v, noise under LCM's boundary condition, x0, or x0 of unscaled latents.
        zsnr: It was trained to start from pure noise.
    """
    from nodes.diffusion.sampling_patches import DiscreteSampling

    return _with(model, DiscreteSampling(_DISCRETE[sampling], zsnr))  # pyright: ignore[reportArgumentType]


@node("ModelSamplingContinuousEDM", category="advanced/model", check=_continuous_problems)
def sampling_continuous(
    *, model: Model, sampling: Continuous,
    sigma_max: Annotated[float, Field(ge=0.0, le=1000.0), Widget(step=0.001)] = 120.0,
    sigma_min: Annotated[float, Field(ge=0.0, le=1000.0), Widget(step=0.001)] = 0.002,
) -> Model:  # fmt: skip
    """Read a UNet as trained on every noise level between two (Karras et al. 2022).

    Args:
        model: The UNet.
        sampling: What it predicts.
        sigma_max: The highest level.
        sigma_min: The lowest.
    """
    from nodes.diffusion.sampling_patches import ContinuousSampling

    return _with(model, ContinuousSampling(_CONTINUOUS[sampling], sigma_min, sigma_max))  # pyright: ignore[reportArgumentType]


@node("ModelComputeDtype", category="advanced/debug/model")
def compute_dtype(*, model: Model, dtype: Annotated[str, Choices(("default", "fp32", "fp16", "bf16"))]) -> Model:
    """Hold and compute a UNet in a number format of your own choice.

    Args:
        model: The UNet.
        dtype: The format; `default` leaves it to the session.
    """
    wanted: Any = "auto" if dtype == "default" else dtype
    return replace(model, unet=replace(model.unet, dtype=wanted))


@node("RescaleCFG", category="advanced/model")
def rescale_cfg(*, model: Model, multiplier: Fraction = 0.7) -> Model:
    """Keep contrast under strong guidance as it is without (Lin et al. 2023).

    Args:
        model: The UNet.
        multiplier: How much; 0 changes nothing.
    """
    from nodes.diffusion.guidance_patches import RescaleCFG

    return _with(model, RescaleCFG(multiplier))


@node("FreeU", title="FreeU", category="model_patches/unet")
def free_u(*, model: Model, b1: Strength = 1.1, b2: Strength = 1.2, s1: Strength = 0.9, s2: Strength = 0.2) -> Model:
    """Strengthen the backbone of the decoder and weaken its skip connections (Si et al. 2023).

    Args:
        model: The UNet.
        b1: Factor of the backbone where it is 4 times as wide as the first block.
        b2: Where it is twice as wide.
        s1: Factor of the skip connection's low frequencies at the first place.
        s2: At the second.
    """
    from nodes.diffusion.unet_patches import FreeU

    return _with(model, FreeU(b1, b2, s1, s2, by_structure=False))


@node("FreeU_V2", title="FreeU V2", category="model_patches/unet")
def free_u_v2(*, model: Model, b1: Strength = 1.3, b2: Strength = 1.4, s1: Strength = 0.9, s2: Strength = 0.2) -> Model:
    """FreeU that strengthens the backbone where it is high (Si et al. 2023, version 2).

    Args:
        model: The UNet.
        b1: Factor of the backbone where it is 4 times as wide as the first block.
        b2: Where it is twice as wide.
        s1: Factor of the skip connection's low frequencies at the first place.
        s2: At the second.
    """
    from nodes.diffusion.unet_patches import FreeU

    return _with(model, FreeU(b1, b2, s1, s2, by_structure=True))


@node("PatchModelAddDownscale", category="model_patches/unet", title="PatchModelAddDownscale (Kohya Deep Shrink)")
def deep_shrink(
    *, model: Model, block_number: Annotated[int, Field(ge=1, le=32)] = 3,
    downscale_factor: Annotated[float, Field(ge=0.1, le=9.0), Widget(step=0.001)] = 2.0, start_percent: Percent = 0.0,
    end_percent: Percent = 0.35, downscale_after_skip: bool = True, downscale_method: Method, upscale_method: Method,
) -> Model:  # fmt: skip
    """Shrink the feature map inside the UNet while noise is high, so that large pictures keep their composition.

    Args:
        model: The UNet.
        block_number: Of the input block.
        downscale_factor: 2 halves both sides.
        start_percent: Where it begins, of the way from noise to picture.
        end_percent: Where it ends.
        downscale_after_skip: Leave the skip connection of that block as it is.
        downscale_method: How pixels are interpolated.
        upscale_method: How they are on the way back.
    """
    from nodes.diffusion.unet_patches import DeepShrink

    return _with(model, DeepShrink(block_number, downscale_factor, start_percent, end_percent, downscale_after_skip,
                                   downscale_method, upscale_method))  # fmt: skip


@node("HyperTile", category="model_patches/unet")
def hypertile(
    *, model: Model, tile_size: Annotated[int, Field(ge=1, le=2048)] = 256,
    swap_size: Annotated[int, Field(ge=1, le=128)] = 2, max_depth: Annotated[int, Field(ge=0, le=10)] = 0,
    scale_depth: bool = False,
) -> Model:  # fmt: skip
    """Cut self-attention at high resolution into tiles: faster for large pictures.

    Args:
        model: The UNet.
        tile_size: In pixels of the picture.
        swap_size: Of how many sizes one is drawn for each attention.
        max_depth: How many levels of the UNet beyond the first.
        scale_depth: Larger tiles at deeper levels.
    """
    from nodes.diffusion.unet_patches import HyperTile

    return _with(model, HyperTile(tile_size, swap_size, max_depth, scale_depth))


@node("TomePatchModel", category="model_patches/unet")
def token_merging(*, model: Model, ratio: Fraction = 0.3) -> Model:
    """Merge tokens that are alike before self-attention: faster, less detail (Bolya & Hoffman 2023).

    Args:
        model: The UNet.
        ratio: The part of the tokens that is merged.
    """
    from nodes.diffusion.unet_patches import TokenMerging

    return _with(model, TokenMerging(ratio))


@node("PerturbedAttentionGuidance", category="model_patches/unet")
def perturbed_attention(
    *, model: Model, scale: Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.01, round=0.01)] = 3.0
) -> Model:
    """Guide away from what the UNet makes with its middle attention blinded; a third more work (Ahn et al. 2024).

    Args:
        model: The UNet.
        scale: How strongly.
    """
    from nodes.diffusion.unet_patches import PerturbedAttention

    return _with(model, PerturbedAttention(scale))


@node("SelfAttentionGuidance", category="_for_testing", title="Self-Attention Guidance")
def self_attention_guidance(
    *, model: Model, scale: Annotated[float, Field(ge=-2.0, le=5.0), Widget(step=0.01)] = 0.5,
    blur_sigma: Annotated[float, Field(ge=0.0, le=10.0), Widget(step=0.1)] = 2.0,
) -> Model:  # fmt: skip
    """Guide away from a picture blurred where the UNet looks; half more work (Hong et al. 2022).

    Args:
        model: The UNet.
        scale: How strongly.
        blur_sigma: Of the blur, in latent pixels.
    """
    from nodes.diffusion.unet_patches import SelfAttentionGuidance

    return _with(model, SelfAttentionGuidance(scale, blur_sigma))


@node("DifferentialDiffusion", category="_for_testing", title="Differential Diffusion")
def differential_diffusion(*, model: Model, strength: Fraction = 1.0) -> Model:
    """Let a soft noise mask say how much each pixel may change (Levin & Fried 2023).

    Args:
        model: The UNet.
        strength: Less than 1 mixes it with the mask as it is.
    """
    from nodes.diffusion.guidance_patches import DifferentialDiffusion

    return _with(model, DifferentialDiffusion(strength))


@node("PerpNeg", category="_for_testing", title="Perp-Neg (DEPRECATED by PerpNegGuider)")
def perp_neg(*, model: Model, empty_conditioning: Conditioning, neg_scale: Scale = 1.0) -> Model:
    """Count only that part of the negative prompt that is perpendicular to the positive one (Armandpour et al. 2023).

    Args:
        model: The UNet.
        empty_conditioning: An empty prompt.
        neg_scale: How strongly the negative prompt is avoided.
    """
    from nodes.diffusion.guidance_patches import PerpNeg

    return _with(model, PerpNeg(empty_conditioning, neg_scale))


@node("CFGZeroStar", category="advanced/guidance")
def cfg_zero_star(*, model: Model) -> Patched:
    """Scale the prediction without the prompt to fit the one with it (Fan et al. 2025).

    Args:
        model: The UNet.
    """
    from nodes.diffusion.guidance_patches import CFGZeroStar

    return Patched(_with(model, CFGZeroStar()))


@node("CFGNorm", category="advanced/guidance")
def cfg_norm(*, model: Model, strength: Scale = 1.0) -> Patched:
    """Keep guided estimates from growing longer than those under the prompt alone.

    Args:
        model: The UNet.
        strength: Factor of the result.
    """
    from nodes.diffusion.guidance_patches import CFGNorm

    return Patched(_with(model, CFGNorm(strength)))


@node("TCFG", category="advanced/guidance", title="Tangential Damping CFG")
def tangential_cfg(*, model: Model) -> Patched:
    """Drop what of the unconditional score is tangential (Kwon et al. 2025).

    Args:
        model: The UNet.
    """
    from nodes.diffusion.guidance_patches import TCFG

    return Patched(_with(model, TCFG()))


@node("APG", category="sampling/custom_sampling", title="Adaptive Projected Guidance")
def apg(
    *, model: Model, eta: Annotated[float, Field(ge=-10.0, le=10.0), Widget(step=0.01)] = 1.0,
    norm_threshold: Annotated[float, Field(ge=0.0, le=50.0), Widget(step=0.1)] = 5.0,
    momentum: Annotated[float, Field(ge=-5.0, le=1.0), Widget(step=0.01)] = 0.0,
) -> Model:  # fmt: skip
    """Strong guidance without burnt colours (Sadat et al. 2024).

    Args:
        model: The UNet.
        eta: How much of the guidance along the estimate is kept; 0 keeps saturation down.
        norm_threshold: The guidance is no longer than this; 0 for no limit.
        momentum: How much of earlier guidance is added; negative values look for what is new.
    """
    from nodes.diffusion.guidance_patches import APG

    return _with(model, APG(eta, norm_threshold, momentum))


@node("LatentApplyOperationCFG", category="latent/advanced/operations")
def operation_cfg(*, model: Model, operation: Operation) -> Model:
    """Apply an operation on latents to the guidance in each step: with a tone map, high cfg burns less.

    Args:
        model: The UNet.
        operation: What is done.
    """
    from nodes.diffusion.guidance_patches import OperationCFG

    return _with(model, OperationCFG(operation))


def _with(model: ModelValue, patch: object) -> ModelValue:
    return replace(model, patches=(*model.patches, patch))
