"""Enlarging with a diffusion model, tile by tile; the nodes of Ultimate SD Upscale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Choices, Widget
from nodes.sampling import cfg_guider
from nodes.types import (
    Cfg,
    Conditioning,
    Fraction,
    GuiderValue,
    Image,
    LatentValue,
    Model,
    NoiseValue,
    SamplerName,
    SamplerValue,
    SchedulerName,
    Seed,
    Steps,
    UpscaleModel,
    UpscaleModelValue,
    Vae,
    VaeValue,
)

if TYPE_CHECKING:
    from torch import Tensor

    from nodes.diffusion.tiled_upscale import Job, Region

Factor = Annotated[float, Field(ge=0.05, le=4.0), Widget(step=0.05)]
Order = Annotated[str, Choices(("Linear", "Chess", "None"))]
SeamFix = Annotated[str, Choices(("None", "Band Pass", "Half Tile", "Half Tile + Intersections"))]
TileSide = Annotated[int, Field(ge=64, le=8192), Widget(step=8)]
Blur = Annotated[int, Field(ge=0, le=64)]
Pixels = Annotated[int, Field(ge=0, le=8192), Widget(step=8)]
TilesAtOnce = Annotated[int, Field(ge=1, le=16)]

_VAE_TILE, _VAE_OVERLAP = 64, 8  # cells


@node("UltimateSDUpscale", category="image/upscaling", title="Ultimate SD Upscale")
def upscale_by_tiles(
    *, ctx: Context, image: Image, model: Model, positive: Conditioning, negative: Conditioning, vae: Vae,
    upscale_by: Factor = 2.0, seed: Seed = 0, steps: Steps = 20, cfg: Cfg = 8.0, sampler_name: SamplerName,
    scheduler: SchedulerName, denoise: Fraction = 0.2, upscale_model: UpscaleModel, mode_type: Order = "Linear",
    tile_width: TileSide = 512, tile_height: TileSide = 512, mask_blur: Blur = 8, tile_padding: Pixels = 32,
    seam_fix_mode: SeamFix = "None", seam_fix_denoise: Fraction = 1.0, seam_fix_width: Pixels = 64,
    seam_fix_mask_blur: Blur = 8, seam_fix_padding: Pixels = 16, force_uniform_tiles: bool = True,
    tiled_decode: bool = False, batch_size: TilesAtOnce = 1,
) -> Image:  # fmt: skip
    """Enlarge images [B, H, W, 3], then draw them again tile by tile, with detail that the larger size has room for.

    Args:
        image: What to enlarge.
        model: The UNet that draws.
        positive: What the picture shows; areas, masks and hints are cut to each tile.
        negative: What it should not.
        vae: The VAE that the model was trained with.
        upscale_by: The factor of each side, rounded to multiples of 8 pixels.
        seed: Decides the noise, the same for each tile.
        steps: For each tile.
        cfg: How strongly the prompt is followed.
        sampler_name: How a step is taken.
        scheduler: How the steps are spread over the noise levels.
        denoise: How much of the enlarged picture is drawn anew.
        upscale_model: Enlarges the picture, as often as the size wants it; then it is scaled to the size.
        mode_type: Row by row, or first every other tile like a chess board; None leaves the tiles as they are.
        tile_width: Of a tile, in pixels.
        tile_height: Of a tile, in pixels.
        mask_blur: How soft the edge of a tile is, in pixels.
        tile_padding: Pixels around a tile that are drawn with it and not kept.
        seam_fix_mode: What is drawn again over seams: bands, tiles half way between others, and these with corners.
        seam_fix_denoise: How much of that is drawn anew.
        seam_fix_width: Of a band, in pixels.
        seam_fix_mask_blur: How soft the edges are.
        seam_fix_padding: Pixels around.
        force_uniform_tiles: Draw all tiles at one size, scaled where need be, also at the picture's edges.
        tiled_decode: Decode tiles in tiles of 512 pixels, with less memory.
        batch_size: Without effect: each tile is drawn after the one before, so that it sees it.
    """
    from nodes.diffusion.tiled_upscale import in_shares, rounded

    size = image.shape[1], image.shape[2]
    return draw_by_tiles(
        upscaled_image=_enlarged(ctx, image[..., :3].to(ctx.device), upscale_model, rounded(size[0] * upscale_by),
                                 rounded(size[1] * upscale_by)),
        positive=in_shares(positive, size), negative=in_shares(negative, size), ctx=ctx, model=model, vae=vae,
        seed=seed, steps=steps, cfg=cfg, sampler_name=sampler_name, scheduler=scheduler, denoise=denoise,
        mode_type=mode_type, tile_width=tile_width, tile_height=tile_height, mask_blur=mask_blur,
        tile_padding=tile_padding, seam_fix_mode=seam_fix_mode, seam_fix_denoise=seam_fix_denoise,
        seam_fix_width=seam_fix_width, seam_fix_mask_blur=seam_fix_mask_blur, seam_fix_padding=seam_fix_padding,
        force_uniform_tiles=force_uniform_tiles, tiled_decode=tiled_decode,
    )  # fmt: skip


@node("UltimateSDUpscaleNoUpscale", category="image/upscaling", title="Ultimate SD Upscale (No Upscale)")
def draw_by_tiles(
    *, ctx: Context, upscaled_image: Image, model: Model, positive: Conditioning, negative: Conditioning, vae: Vae,
    seed: Seed = 0, steps: Steps = 20, cfg: Cfg = 8.0, sampler_name: SamplerName, scheduler: SchedulerName,
    denoise: Fraction = 0.2, mode_type: Order = "Linear", tile_width: TileSide = 512, tile_height: TileSide = 512,
    mask_blur: Blur = 8, tile_padding: Pixels = 32, seam_fix_mode: SeamFix = "None", seam_fix_denoise: Fraction = 1.0,
    seam_fix_width: Pixels = 64, seam_fix_mask_blur: Blur = 8, seam_fix_padding: Pixels = 16,
    force_uniform_tiles: bool = True, tiled_decode: bool = False, batch_size: TilesAtOnce = 1,
) -> Image:  # fmt: skip
    """Draw large images [B, H, W, 3] again tile by tile, with detail that a smaller picture had no room for.

    Args:
        upscaled_image: What to draw again; sides that are no multiples of 8 are scaled to the nearest.
        model: The UNet that draws.
        positive: What the picture shows; areas, masks and hints are cut to each tile.
        negative: What it should not.
        vae: The VAE that the model was trained with.
        seed: Decides the noise, the same for each tile.
        steps: For each tile.
        cfg: How strongly the prompt is followed.
        sampler_name: How a step is taken.
        scheduler: How the steps are spread over the noise levels.
        denoise: How much of the picture is drawn anew.
        mode_type: Row by row, or first every other tile like a chess board; None leaves the tiles as they are.
        tile_width: Of a tile, in pixels.
        tile_height: Of a tile, in pixels.
        mask_blur: How soft the edge of a tile is, in pixels.
        tile_padding: Pixels around a tile that are drawn with it and not kept.
        seam_fix_mode: What is drawn again over seams: bands, tiles half way between others, and these with corners.
        seam_fix_denoise: How much of that is drawn anew.
        seam_fix_width: Of a band, in pixels.
        seam_fix_mask_blur: How soft the edges are.
        seam_fix_padding: Pixels around.
        force_uniform_tiles: Draw all tiles at one size, scaled where need be, also at the picture's edges.
        tiled_decode: Decode tiles in tiles of 512 pixels, with less memory.
        batch_size: Without effect: each tile is drawn after the one before, so that it sees it.
    """
    from nodes.diffusion.sampling import parametrisation_of
    from nodes.diffusion.schedules import sampling_sigmas
    from nodes.diffusion.tiled_upscale import drawn_again, rounded, seam_jobs, tile_jobs

    height, width = (rounded(side) for side in upscaled_image.shape[1:3])
    tile, table = (tile_height, tile_width), parametrisation_of(model).table
    jobs = tile_jobs(height, width, tile, mode_type, tile_padding, mask_blur) + seam_jobs(
        height, width, tile, seam_fix_mode, band=seam_fix_width, padding=seam_fix_padding, blur=seam_fix_mask_blur
    )
    drawing = _Drawing(
        ctx, cfg_guider(model, positive, negative, cfg), vae, NoiseValue(seed), SamplerValue(sampler_name),
        sampling_sigmas(sampler_name, scheduler, steps, denoise, table),
        sampling_sigmas(sampler_name, scheduler, steps, seam_fix_denoise, table), tiled_decode, (height, width),
        len(jobs),
    )  # fmt: skip
    pictures = _scaled(upscaled_image[..., :3].to(ctx.device), height, width)
    return drawn_again(pictures, jobs, drawing.redraw, is_uniform=force_uniform_tiles)


def _enlarged(ctx: Context, images: Tensor, upscaler: UpscaleModelValue, height: int, width: int) -> Tensor:
    """Images of that size: by the upscaler as long as they are smaller, then scaled."""
    from nodes.diffusion.upscaling import upscaled

    with ctx.use(upscaler.weights) as network:
        while network.scale > 1 and (images.shape[1] < height or images.shape[2] < width):
            images = upscaled(network, images, on_tile=ctx.step)
    return _scaled(images, height, width)


def _scaled(images: Tensor, height: int, width: int) -> Tensor:
    from nodes.diffusion.resize import resize

    if images.shape[1:3] == (height, width):
        return images
    return resize(images.movedim(-1, 1), width, height, "lanczos").movedim(1, -1)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """How the tiles of a picture are drawn again.

    Attributes:
        sigmas: noise levels for tiles.
        fix_sigmas: the same for what goes over seams.
        is_decoded_in_tiles: whether the VAE decodes in tiles of its own.
        size: height and width of the picture.
        tiles: how many there are.
    """

    ctx: Context
    guider: GuiderValue
    vae: VaeValue
    noise: NoiseValue
    sampler: SamplerValue
    sigmas: Tensor
    fix_sigmas: Tensor
    is_decoded_in_tiles: bool
    size: tuple[int, int]
    tiles: int

    def redraw(self, number: int, job: Job, crop: Region, pixels: Tensor) -> Tensor:
        """Image to image: pixels [B, h, w, 3] of the part `crop` to as many."""
        import torch

        from nodes.diffusion.sampling import sample
        from nodes.diffusion.tiled_upscale import cropped_prompts

        tile = pixels.shape[1], pixels.shape[2]
        prompts = {side: cropped_prompts(conds, crop, tile, self.size) for side, conds in self.guider.prompts.items()}
        sigmas = self.fix_sigmas if job.is_fix else self.sigmas
        with self.ctx.use(self.vae.vae) as autoencoder, torch.no_grad():
            latent = torch.cat([autoencoder.encode(item[None]) for item in pixels])
        found = sample(
            self.ctx.use, replace(self.guider, prompts=prompts), LatentValue(latent), noise=self.noise,
            sampler=self.sampler, sigmas=sigmas, progress=_Share(self.ctx, number, self.tiles),
        ).latent.samples  # fmt: skip
        if len(sigmas) < 2:  # nothing was sampled
            self.ctx.step(number + 1, self.tiles)
        return self._decoded(found)

    def _decoded(self, latent: Tensor) -> Tensor:
        import torch

        from nodes.diffusion.tiling import decode_tiled

        with self.ctx.use(self.vae.vae) as autoencoder, torch.no_grad():
            if not self.is_decoded_in_tiles:
                return torch.cat([autoencoder.decode(item[None]) for item in latent])
            return decode_tiled(
                autoencoder, latent, tile=_VAE_TILE, overlap=_VAE_OVERLAP, on_tile=lambda i, n: self.ctx.check()
            )


@dataclass(frozen=True, slots=True)
class _Share:
    """Progress of one tile as a part of all."""

    ctx: Context
    done: int
    tiles: int

    def check(self) -> None:
        """Raises Interrupted when the run was cancelled."""
        self.ctx.check()

    def step(self, i: int, n: int, x0: Tensor) -> None:
        """Tells a step."""
        self.ctx.step(self.done * n + i, self.tiles * n)
