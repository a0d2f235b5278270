"""Patches of a model: they follow one another in order, and hold nothing from run to run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from nodegraph.codec import decode, encode
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.guidance_patches import (
    APG,
    TCFG,
    CFGNorm,
    CFGZeroStar,
    DifferentialDiffusion,
    OperationCFG,
    PerpNeg,
    RescaleCFG,
)
from nodes.diffusion.latent_operations import TonemapReinhard
from nodes.diffusion.parametrisation import Parametrisation, trained
from nodes.diffusion.patches import Hooks, Patch, Start, parametrised, started
from nodes.diffusion.sampling_patches import ContinuousSampling, DiscreteSampling
from nodes.diffusion.tweaks import Tweaks
from nodes.diffusion.unet_patches import (
    DeepShrink,
    FreeU,
    HyperTile,
    PerturbedAttention,
    SelfAttentionGuidance,
    TokenMerging,
)
from nodes.types import Cond

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip
START = Start(CONFIG, trained(CONFIG), torch.tensor([14.0, 0.0]), lambda conds: (), torch.Generator)
ALL_PATCHES: list[Patch] = [
    DiscreteSampling("lcm", True), ContinuousSampling("edm", 0.002, 80.0), RescaleCFG(0.7),
    PerpNeg((Cond(torch.ones(1, 77, 8), None, {"strength": 0.5}),), 1.5), CFGZeroStar(), CFGNorm(0.9),
    APG(0.5, 5.0, -0.5), TCFG(), OperationCFG(TonemapReinhard(0.8)), DifferentialDiffusion(0.25),
    FreeU(1.1, 1.2, 0.9, 0.2, True), DeepShrink(3, 2.0, 0.0, 0.35, True, "bicubic", "bislerp"),
    HyperTile(256, 2, 0, False), TokenMerging(0.3), PerturbedAttention(3.0), SelfAttentionGuidance(0.5, 2.0),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named(Patch):
    """Leaves its name wherever it is called."""

    name: str
    has: tuple[str, ...] = ()

    def parametrise(self, parametrisation: Parametrisation) -> Parametrisation:
        return dataclasses.replace(parametrisation, stride=parametrisation.stride * 10 + int(self.name))

    def start(self, run: Start) -> Hooks:
        def noted(*given: Any) -> Any:
            return [*given[0], self.name]

        def replaced(*given: Any) -> Any:
            return self.name

        return Hooks(
            before=(noted,), after=(noted,),
            combine=replaced if "combine" in self.has else None, mask=replaced if "mask" in self.has else None,
            tweaks=Tweaks(
                inputs=(noted,), skipped=(noted,), outputs=(noted,), queries=(noted,),
                attend={("middle", 0): replaced} if "attend" in self.has else {},
            ),
            needs_uncond="uncond" in self.has,
        )  # fmt: skip


def ends(changes: tuple[Any, ...]) -> list[str]:
    found: list[str] = []
    for change in changes:
        found = change(found)
    return found


def test_changes_follow_one_another_in_order() -> None:
    hooks = started([Named("1"), Named("2"), Named("3")], START)
    for changes in (hooks.before, hooks.after, hooks.tweaks.inputs, hooks.tweaks.skipped, hooks.tweaks.outputs,
                    hooks.tweaks.queries):  # fmt: skip
        assert ends(changes) == ["1", "2", "3"]


def test_of_replacements_the_last_one_counts() -> None:
    hooks: Any = started(
        [Named("1", ("combine", "mask", "attend")), Named("2", ("combine", "attend")), Named("3")], START
    )
    assert (hooks.combine(), hooks.mask(), hooks.tweaks.attend["middle", 0]()) == ("2", "1", "2")


def test_one_patch_that_needs_the_negative_side_is_enough() -> None:
    assert started([Named("1", ("uncond",)), Named("2")], START).needs_uncond
    assert not started([Named("1"), Named("2")], START).needs_uncond


def test_parametrisations_follow_one_another() -> None:
    assert parametrised([Named("2"), "a LoRA", Named("3")], trained(CONFIG)).stride == 123


def test_without_patches_nothing_is_changed() -> None:
    assert started([], START) == Hooks() and started(["a LoRA"], START) == Hooks()
    assert (
        started([Patch()], START).before == ()
        and parametrised([Patch()], START.parametrisation) == START.parametrisation
    )


@pytest.mark.parametrize("patch", ALL_PATCHES, ids=lambda patch: type(patch).__name__)
def test_every_patch_is_stored_and_read_unchanged(patch: Any) -> None:
    structure, tensors = encode(patch)
    found = decode(structure, tensors, ["nodes"])
    assert type(found) is type(patch) and encode(found)[0] == structure
    if not isinstance(patch, PerpNeg):
        assert found == patch
    else:
        assert torch.equal(found.empty[0].tokens, patch.empty[0].tokens) and found.empty[0].options == {"strength": 0.5}


@pytest.mark.parametrize("patch", ALL_PATCHES, ids=lambda patch: type(patch).__name__)
def test_no_patch_can_be_changed(patch: Any) -> None:
    with pytest.raises((AttributeError, TypeError)):
        patch.something = 1
    for field in dataclasses.fields(patch):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(patch, field.name, None)


def test_every_patch_starts_anew_each_run() -> None:
    def functions(hooks: Hooks) -> set[int]:
        tweaks = hooks.tweaks
        named = (*hooks.before, *hooks.after, hooks.combine, hooks.mask, *tweaks.inputs, *tweaks.skipped,
                 *tweaks.outputs, *tweaks.queries, *tweaks.attend.values())  # fmt: skip
        return {id(function) for function in named if function is not None}

    for patch in ALL_PATCHES:
        first, second = patch.start(START), patch.start(START)
        assert not functions(first) & functions(second), patch


def test_a_mask_may_be_changed_by_a_patch() -> None:
    mask = torch.tensor([0.0, 0.5, 1.0])
    hooks = started([DifferentialDiffusion()], START)
    assert hooks.mask is not None
    found: Tensor = hooks.mask(mask, torch.tensor(14.0))
    assert found.tolist() == [0.0, 0.0, 1.0] and mask.tolist() == [0.0, 0.5, 1.0]
