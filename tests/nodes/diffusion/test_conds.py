"""A conditioning is made ready for a UNet; one that does not fit is named in words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nodes.diffusion.architecture import Family, UNetConfig
from nodes.diffusion.conds import Area, Model, Prompt, check_latent, prepare, with_opposites
from nodes.diffusion.parametrisation import trained
from nodes.diffusion.unet import timestep_embedding
from nodes.types import Cond

X = torch.zeros(2, 4, 2, 2)


def config(context: int, adm: int | None = None, channels: int = 4) -> UNetConfig:
    return UNetConfig(
        in_channels=channels, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,),
        transformer_depth=(1,), middle_depth=1, context_dim=context, num_heads=8, head_channels=None, use_linear=False,
        adm_in_channels=adm,
    )  # fmt: skip


def model(context: int, adm: int | None = None, family: Family = "sd1") -> Model:
    found = config(context, adm)
    return Model(found, family, trained(found))


def cond(features: int, pooled: int | None = None, /, **options: Any) -> Cond:
    return Cond(torch.zeros(1, 77, features), None if pooled is None else torch.ones(1, pooled), options)


def test_a_conditioning_is_repeated_to_the_batch_with_its_strength() -> None:
    (ready,) = prepare((cond(768, 768, strength=0.5),), "positive", model(768), X)
    assert ready.context.shape == (2, 77, 768) and ready.y is None and ready.strength == 0.5


WRONG: list[tuple[Family, int, int | None, Cond, str]] = [
    ("sd1", 768, None, cond(2048, 1280),
     "positive conditioning has 2048 features (an SDXL text encoder) but this SD1 model expects 768"),
    ("sdxl", 2048, 2816, cond(768, 768),
     "positive conditioning has 768 features (an SD1 text encoder) but this SDXL model expects 2048"),
    ("sd2", 1024, None, cond(33), "positive conditioning has 33 features but this SD2 model expects 1024"),
    ("sdxl", 2048, 2816, cond(2048, 768),
     "positive conditioning has a pooled output of 768 features but this SDXL model expects 1280"),
    ("sdxl_refiner", 1280, 2560, cond(1280),
     "positive conditioning has no pooled output but this SDXL refiner model needs one of 1280 features"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "context", "adm", "wrong", "message"), WRONG)
def test_a_conditioning_of_another_model_is_named(
    family: Family, context: int, adm: int | None, wrong: Cond, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        prepare((wrong,), "positive", model(context, adm, family), X)
    assert str(error.value) == message + "; encode the prompt with the CLIP of the model's own checkpoint"


def test_an_empty_conditioning_is_an_error() -> None:
    with pytest.raises(ValueError, match="the negative conditioning is empty; connect a prompt"):
        prepare((), "negative", model(768), X)


def test_a_latent_of_another_model_is_named() -> None:
    check_latent(X, config(768), "sd1")
    with pytest.raises(ValueError, match=r"the latent has 16 channels but this SD1 model takes \[B, 4, h, w\]"):
        check_latent(torch.zeros(1, 16, 2, 2), config(768), "sd1")
    with pytest.raises(ValueError, match=r"the latent has the shape \(4, 2, 2\)"):
        check_latent(torch.zeros(4, 2, 2), config(768), "sd1")


def vector(family: Family, adm: int, side: Any = "positive", **options: Any) -> Tensor:
    (ready,) = prepare((cond(8, 4, **options),), side, model(8, adm, family), torch.zeros(2, 4, 3, 5))
    assert ready.y is not None and ready.y.shape == (2, adm) and ready.y[0, :4].tolist() == [1.0] * 4
    return ready.y


def features(*numbers: float) -> Tensor:
    return timestep_embedding(torch.tensor(numbers), 256).flatten()


def test_sdxl_is_told_the_size_of_the_picture_by_default() -> None:
    assert torch.equal(vector("sdxl", 4 + 6 * 256)[1, 4:], features(24, 40, 0, 0, 24, 40))


def test_sdxl_is_told_the_sizes_of_the_conditioning() -> None:
    y = vector("sdxl", 4 + 6 * 256, width=64, height=72, crop_w=8, crop_h=16, target_width=32, target_height=48)
    assert torch.equal(y[0, 4:], features(72, 64, 16, 8, 48, 32))


def test_a_target_size_is_the_original_one_unless_given() -> None:
    assert torch.equal(vector("sdxl", 4 + 6 * 256, width=64, height=72)[0, 4:], features(72, 64, 0, 0, 72, 64))


def test_the_refiner_is_told_a_score_by_side() -> None:
    assert torch.equal(vector("sdxl_refiner", 4 + 5 * 256)[0, 4:], features(24, 40, 0, 0, 6))
    assert torch.equal(vector("sdxl_refiner", 4 + 5 * 256, "negative")[0, 4:], features(24, 40, 0, 0, 2.5))
    assert torch.equal(vector("sdxl_refiner", 4 + 5 * 256, aesthetic_score=9.0)[0, 4:], features(24, 40, 0, 0, 9))


WIDE = torch.zeros(2, 4, 16, 32)


def placed(**options: Any) -> Prompt:
    (ready,) = prepare((cond(8, **options),), "positive", model(8), WIDE)
    return ready


def test_an_area_fades_out_towards_the_rest_of_the_picture() -> None:
    ready = placed(area=(16, 16, 0, 16), strength=2.0)
    assert ready.area == Area(16, 16, 0, 16) and isinstance(ready.strength, Tensor)
    assert (ready.strength[0, 0] / 2).tolist() == [[0.25, 0.5, 0.75, *[1.0] * 13]] * 16


def test_an_area_in_percent_is_of_the_latent_and_at_least_a_pixel() -> None:
    assert placed(area=("percentage", 0.5, 0.25, 0.5, 0.75)).area == Area(8, 8, 8, 24)
    assert placed(area=("percentage", 0.01, 0.01, 0.0, 0.0)).area == Area(1, 1, 0, 0)


def test_an_area_is_cut_at_the_border_and_refused_outside() -> None:
    assert placed(area=(64, 64, 8, 8)).area == Area(8, 24, 8, 8)
    with pytest.raises(ValueError, match="starts at x 320, y 0, outside the picture of 256 x 128; move it inside"):
        placed(area=(8, 8, 0, 40))


def test_a_mask_is_scaled_to_the_latent_and_counts_by_its_strength() -> None:
    mask = torch.zeros(1, 32, 64)
    mask[:, :, 32:] = 1
    ready = placed(mask=mask, mask_strength=0.5, strength=0.5)
    assert ready.area is None and isinstance(ready.strength, Tensor) and ready.strength.shape == (2, 1, 16, 32)
    assert ready.strength[0, 0, 0].tolist() == [0.0] * 16 + [0.25] * 16


def test_a_mask_may_set_the_area_to_its_bounds() -> None:
    mask = torch.zeros(1, 16, 32)
    mask[:, 2:12, 20] = 1
    assert placed(mask=mask, set_area_to_bounds=True).area == Area(10, 8, 2, 20)
    assert placed(mask=mask * 0, set_area_to_bounds=True).area == Area(8, 8, 0, 0)


def test_a_range_of_steps_is_one_of_noise_levels() -> None:
    high, low = placed(start_percent=0.0, end_percent=0.5).levels
    assert high > 14.7 and low == pytest.approx(1.62, abs=0.01)
    assert placed(start_percent=0.0, end_percent=0.5).applies_at(2.0)
    assert not placed(start_percent=0.0, end_percent=0.5).applies_at(1.0)


def test_an_area_has_a_counterpart_on_the_other_side() -> None:
    left = placed(area=(16, 16, 0, 0))
    (other,) = prepare((Cond(torch.ones(1, 77, 8)),), "negative", model(8), WIDE)
    sides = with_opposites({"positive": [left], "negative": [other]})
    assert sides["positive"] == [left] and len(sides["negative"]) == 2
    added = sides["negative"][1]
    assert added.area == left.area and added.strength is left.strength and added.context is other.context


def test_an_area_that_nothing_covers_has_no_counterpart() -> None:
    left, right = placed(area=(16, 16, 0, 0)), placed(area=(16, 16, 0, 16))
    assert with_opposites({"positive": [left], "negative": [right]})["negative"] == [right]
