"""Ultimate SD Upscale's nodes, with the models that ship."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from nodegraph.context import Context
from nodegraph.errors import Interrupted
from nodegraph.files import Folders
from nodegraph.types import FileRef
from nodes.diffusion.resize import resize
from nodes.diffusion.upscaling import upscaled
from nodes.loaders import LoadedCheckpoint, load_checkpoint
from nodes.sampling import ksampler
from nodes.text import encode_text
from nodes.tiled_upscale import draw_by_tiles, upscale_by_tiles
from nodes.types import Cond
from nodes.upscale import load_upscale_model
from nodes.vae import decode, encode

MODELS = Path(__file__).parents[2] / "nodes" / "models"


class Lender:
    """The part of a context that these nodes use: lends networks it has loaded once, and notes the steps."""

    device, files = torch.device("cpu"), Folders.of(Path("nowhere"))
    loaded: dict[str, Any] = {}  # noqa: RUF012  # shared by the tests of this file

    def __init__(self, stop_at: int = 0) -> None:
        self.steps: list[tuple[int, int]] = []
        self.stop_at = stop_at

    @contextmanager
    def use(self, weights: Any) -> Iterator[Any]:
        key = weights.fingerprint
        if key not in self.loaded:
            self.loaded[key] = weights.load("cpu", torch.float32)
        yield self.loaded[key]

    def check(self) -> None:
        if self.stop_at and len(self.steps) >= self.stop_at:
            raise Interrupted

    def step(self, i: int, n: int, preview: Any = None) -> None:
        self.check()
        self.steps.append((i, n))


def reference(kind: str, name: str) -> FileRef:
    return FileRef(name, str(MODELS / kind / name), name)


@pytest.fixture(scope="module")
def starter() -> LoadedCheckpoint:
    return load_checkpoint(ckpt_name=reference("checkpoints", "starter.safetensors"))


@pytest.fixture(scope="module")
def prompts(starter: LoadedCheckpoint) -> dict[str, tuple[Cond, ...]]:
    ctx = cast(Context, Lender())
    return {
        "positive": encode_text(ctx=ctx, text="a large red sphere on a white background", clip=starter.CLIP),
        "negative": encode_text(ctx=ctx, text="", clip=starter.CLIP),
    }


def scene(height: int, width: int, batch: int = 1) -> Tensor:
    """A red disc on white: [B, height, width, 3]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    inside = ((0.55 - (x**2 + y**2).sqrt()) * 40).sigmoid()[..., None]
    picture = inside * torch.tensor([0.8, 0.1, 0.1]) + (1 - inside) * torch.tensor([0.95, 0.95, 0.95])
    return picture.expand(batch, -1, -1, -1).clone()


def drawn(
    lender: Lender, picture: Tensor, starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]], **settings: Any
) -> Tensor:
    common: dict[str, Any] = {
        "seed": 5, "steps": 3, "cfg": 5.0, "sampler_name": "euler", "scheduler": "karras", "denoise": 0.4,
        "tile_width": 64, "tile_height": 64, "mask_blur": 4, "tile_padding": 16, "force_uniform_tiles": False,
    }  # fmt: skip
    return draw_by_tiles(ctx=cast(Context, lender), upscaled_image=picture, model=starter.MODEL, vae=starter.VAE,
                         **prompts, **{**common, **settings})  # fmt: skip


def test_a_single_tile_is_image_to_image(starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]]) -> None:
    picture, lender = scene(64, 96), Lender()
    whole = {"tile_width": 96, "tile_height": 64, "tile_padding": 0, "mask_blur": 0}
    for is_uniform in (True, False):
        found = drawn(lender, picture, starter, prompts, **whole, force_uniform_tiles=is_uniform)
        ctx = cast(Context, Lender())
        latent = encode(ctx=ctx, pixels=picture, vae=starter.VAE)
        sampled = ksampler(ctx=ctx, model=starter.MODEL, seed=5, steps=3, cfg=5.0, sampler_name="euler",
                           scheduler="karras", latent_image=latent, denoise=0.4, **prompts)  # fmt: skip
        torch.testing.assert_close(found, decode(ctx=ctx, samples=sampled, vae=starter.VAE))
    assert lender.steps == [(1, 3), (2, 3), (3, 3)] * 2


def test_without_denoising_the_picture_goes_through_the_vae_alone(
    starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]]
) -> None:
    picture, lender = scene(64, 64, batch=2), Lender()
    found = drawn(lender, picture, starter, prompts, denoise=0.0, mask_blur=0)
    ctx = cast(Context, Lender())
    wanted = decode(ctx=ctx, samples=encode(ctx=ctx, pixels=picture, vae=starter.VAE), vae=starter.VAE)
    torch.testing.assert_close(found, wanted)
    assert lender.steps == [(1, 1)]


def test_progress_counts_the_steps_of_all_tiles_and_a_cancel_stops_between(
    starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]]
) -> None:
    lender = Lender()
    found = drawn(lender, scene(64, 128), starter, prompts, steps=2, seam_fix_mode="Band Pass", seam_fix_width=16,
                  seam_fix_padding=8, tiled_decode=True)  # fmt: skip
    assert found.shape == (1, 64, 128, 3) and lender.steps == [(i, 6) for i in range(1, 7)]
    lender = Lender(stop_at=3)
    with pytest.raises(Interrupted):
        drawn(lender, scene(64, 128), starter, prompts, steps=2)
    assert lender.steps == [(1, 4), (2, 4), (3, 4)]


def test_seams_do_not_show(starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]]) -> None:
    picture = scene(192, 192)

    def at_seams(found: Tensor) -> float:
        """How much larger the steps across the seams are than those beside them."""
        across = (found[0, :, 1:] - found[0, :, :-1]).abs().mean((0, 2))  # [191]; 95 is across the middle
        down = (found[0, 1:] - found[0, :-1]).abs().mean((1, 2))
        return max(float(line[95] / torch.cat([line[88:94], line[97:103]]).mean()) for line in (across, down))

    settings = {"tile_width": 96, "tile_height": 96, "steps": 4, "denoise": 0.5}
    hard = at_seams(drawn(Lender(), picture, starter, prompts, mask_blur=0, tile_padding=0, **settings))
    soft = at_seams(drawn(Lender(), picture, starter, prompts, mask_blur=8, tile_padding=32, **settings))
    assert hard > 2 and soft < 1.35, (hard, soft)


def test_the_upscaler_makes_the_size_and_the_rest_is_scaled(
    starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]]
) -> None:
    model = load_upscale_model(model_name=reference("upscale_models", "starter-4x.safetensors"))
    picture = scene(24, 40, batch=2)
    found = upscale_by_tiles(
        ctx=cast(Context, Lender()), image=picture, model=starter.MODEL, vae=starter.VAE, **prompts, upscale_by=1.55,
        sampler_name="euler", scheduler="karras", upscale_model=model, mode_type="None",
    )  # fmt: skip
    larger = upscaled(model.weights.load("cpu", torch.float32), picture, on_tile=lambda i, n: None)
    wanted = resize(larger.movedim(-1, 1), 64, 40, "lanczos").movedim(1, -1)  # 62 and 37.2, in cells
    assert found.shape == (2, 40, 64, 3) and torch.equal(found, wanted)


def test_prompts_of_areas_are_those_of_the_picture_before_it_was_enlarged(
    starter: LoadedCheckpoint, prompts: dict[str, tuple[Cond, ...]]
) -> None:
    model = load_upscale_model(model_name=reference("upscale_models", "starter-4x.safetensors"))
    right = [Cond(cond.tokens, None, {"area": (4, 4, 0, 4)}) for cond in prompts["positive"]]  # of 64 x 32 pixels

    def enlarged(positive: tuple[Cond, ...]) -> Tensor:
        return upscale_by_tiles(
            ctx=cast(Context, Lender()), image=scene(32, 64), model=starter.MODEL, vae=starter.VAE, upscale_model=model,
            positive=positive, negative=prompts["negative"], upscale_by=2.0, steps=2, sampler_name="euler", denoise=0.6,
            scheduler="karras", tile_width=64, tile_height=64, tile_padding=0, mask_blur=0,
        )  # fmt: skip

    plain = enlarged(prompts["positive"])
    divided = enlarged((*prompts["negative"], *right))
    assert divided.shape == (1, 64, 128, 3)
    assert (divided - plain)[:, :, :64].abs().max() > (divided - plain)[:, :, 64:].abs().max()
