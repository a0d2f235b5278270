"""Guiders: which prompts steer a model, and how they are joined."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.sampling import cfg_guider
from nodes.types import Cfg, Conditioning, Guider, GuiderValue, Model

Style = Annotated[str, Choices(("regular", "nested"))]
NegScale = Annotated[float, Field(ge=0.0, le=100.0), Widget(step=0.01)]


@node("BasicGuider", category="sampling/custom_sampling/guiders")
def basic_guider(*, model: Model, conditioning: Conditioning) -> Guider:
    """One prompt, no guidance: half the work of CFG; for distilled models.

    Args:
        model: The UNet that denoises.
        conditioning: What the picture should show.
    """
    return GuiderValue(model, "basic", {"positive": conditioning})


@node("CFGGuider", category="sampling/custom_sampling/guiders")
def make_cfg_guider(*, model: Model, positive: Conditioning, negative: Conditioning, cfg: Cfg = 8.0) -> Guider:
    """Classifier-free guidance (Ho & Salimans 2022).

    Args:
        model: The UNet that denoises.
        positive: What the picture should show.
        negative: What it should not.
        cfg: How strongly the prompt is followed; 1 leaves the negative prompt out.
    """
    return cfg_guider(model, positive, negative, cfg)


@node("DualCFGGuider", category="sampling/custom_sampling/guiders")
def dual_cfg_guider(
    *, model: Model, cond1: Conditioning, cond2: Conditioning, negative: Conditioning, cfg_conds: Cfg = 8.0,
    cfg_cond2_negative: Cfg = 8.0, style: Style = "regular",
) -> Guider:  # fmt: skip
    """Guidance in two steps, from the negative prompt over a second to a first (InstructPix2Pix, Brooks et al. 2023).

    Args:
        model: The UNet that denoises.
        cond1: The prompt that is led to.
        cond2: The prompt between.
        negative: What the picture should not show.
        cfg_conds: How strongly from cond2 to cond1.
        cfg_cond2_negative: How strongly from the negative prompt to cond2; `nested`: to what the first two give.
        style: How the two are joined.
    """
    prompts = {"positive": cond1, "middle": cond2, "negative": negative}
    return GuiderValue(model, "dual_nested" if style == "nested" else "dual", prompts, (cfg_conds, cfg_cond2_negative))


@node("PerpNegGuider", category="_for_testing")
def perp_neg_guider(
    *, model: Model, positive: Conditioning, negative: Conditioning, empty_conditioning: Conditioning,
    cfg: Cfg = 8.0, neg_scale: NegScale = 1.0,
) -> Guider:  # fmt: skip
    """Guidance in which only that part of the negative prompt counts that is perpendicular to the positive one.

    Source: Armandpour et al. 2023 (arXiv:2304.04968).

    Args:
        model: The UNet that denoises.
        positive: What the picture should show.
        negative: What it should not.
        empty_conditioning: An empty prompt.
        cfg: How strongly the prompt is followed.
        neg_scale: How strongly the negative prompt is avoided.
    """
    prompts = {"positive": positive, "negative": negative, "empty": empty_conditioning}
    return GuiderValue(model, "perp_neg", prompts, (cfg, neg_scale))
