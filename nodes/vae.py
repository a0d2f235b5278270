"""Between images and latents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Widget
from nodes.types import Image, Latent, LatentValue, Mask, Vae

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

GrowMaskBy = Annotated[int, Field(ge=0, le=64), Widget(step=1)]
DecodeTile = Annotated[int, Field(ge=64, le=4096), Widget(step=32)]
EncodeTile = Annotated[int, Field(ge=64, le=4096), Widget(step=64)]
Overlap = Annotated[int, Field(ge=0, le=4096), Widget(step=32)]
TemporalSize = Annotated[int, Field(ge=8, le=4096), Widget(step=4)]
TemporalOverlap = Annotated[int, Field(ge=4, le=4096), Widget(step=4)]

_CELL = 8  # pixels of a latent cell, along each side


@node("VAEDecode", category="latent", title="VAE Decode")
def decode(*, ctx: Context, samples: Latent, vae: Vae) -> Image:
    """Decode latents [B, 4, h, w] into images [B, 8 h, 8 w, 3], 0..1.

    Args:
        samples: Unscaled latents.
        vae: The VAE that the model was trained with.
    """
    with ctx.use(vae.vae) as autoencoder:
        return _one_by_one(autoencoder.decode, samples.samples, ctx)


@node("VAEEncode", category="latent", title="VAE Encode")
def encode(*, ctx: Context, pixels: Image, vae: Vae) -> Latent:
    """Encode images [B, H, W, C], 0..1, into latents [B, 4, H/8, W/8]; sides are cropped to multiples of 8.

    Args:
        pixels: Images; alpha is dropped.
        vae: The VAE that the model was trained with.
    """
    with ctx.use(vae.vae) as autoencoder:
        return LatentValue(_one_by_one(autoencoder.encode, pixels, ctx))


def _one_by_one(function: Callable[[Tensor], Tensor], batch: Tensor, ctx: Context) -> Tensor:
    """Maps a batch item by item: activations of one image are many times its size."""
    import torch

    results: list[Tensor] = []
    with torch.no_grad():
        for i, item in enumerate(batch):
            results.append(function(item[None].to(ctx.device)))
            ctx.step(i + 1, len(batch))
    return torch.cat(results)


@node("VAEEncodeForInpaint", category="latent/inpaint", title="VAE Encode (for Inpainting)")
def encode_for_inpaint(*, ctx: Context, pixels: Image, vae: Vae, mask: Mask, grow_mask_by: GrowMaskBy = 6) -> Latent:
    """Encode images [B, H, W, C] with what a mask covers made grey, to be sampled there; for models of inpainting.

    Args:
        pixels: Images; sides are cropped to multiples of 8.
        vae: The VAE that the model was trained with.
        mask: [B or 1, H, W]; 1 is sampled. It is stretched over the images and rounded.
        grow_mask_by: By how many pixels the sampled part is larger than what is grey, so that no edge shows.
    """
    from nodes.diffusion.inpaint import grey_out, grown

    with ctx.use(vae.vae) as autoencoder:
        images, fitted = grey_out(pixels, mask, autoencoder.scale)
        samples = _one_by_one(autoencoder.encode, images, ctx)
    return LatentValue(samples, grown(fitted, grow_mask_by).to(ctx.device))


@node("VAEDecodeTiled", category="_for_testing", title="VAE Decode (Tiled)")
def decode_tiled(
    *, ctx: Context, samples: Latent, vae: Vae, tile_size: DecodeTile = 512, overlap: Overlap = 64,
    temporal_size: TemporalSize = 64, temporal_overlap: TemporalOverlap = 8,
) -> Image:  # fmt: skip
    """Decode latents [B, 4, h, w] into images [B, 8 h, 8 w, 3], 0..1, tile by tile: slower, with less memory.

    Args:
        samples: Unscaled latents.
        vae: The VAE that the model was trained with.
        tile_size: Side of a tile in pixels.
        overlap: Of neighbouring tiles, in pixels; at most a quarter of a tile is used.
        temporal_size: Frames of a tile of video; without effect on images.
        temporal_overlap: Frames of overlap of video; without effect on images.
    """
    import torch

    from nodes.diffusion import tiling

    overlap = tile_size // 4 if tile_size < overlap * 4 else overlap
    with ctx.use(vae.vae) as autoencoder, torch.no_grad():
        tile, shared = tile_size // autoencoder.scale, overlap // autoencoder.scale
        latents = samples.samples.to(ctx.device)
        return tiling.decode_tiled(autoencoder, latents, tile=tile, overlap=shared, on_tile=ctx.step)


def _too_wide(*, tile_size: int | None = None, overlap: int | None = None, **_: Any) -> Iterator[str]:
    if tile_size is not None and overlap is not None and tile_size // 2 // _CELL <= overlap // _CELL:
        yield f"overlap is {overlap} and tile_size {tile_size}; expected an overlap below half the tile size"


@node("VAEEncodeTiled", category="_for_testing", title="VAE Encode (Tiled)", check=_too_wide)
def encode_tiled(
    *, ctx: Context, pixels: Image, vae: Vae, tile_size: EncodeTile = 512, overlap: Overlap = 64,
    temporal_size: TemporalSize = 64, temporal_overlap: TemporalOverlap = 8,
) -> Latent:  # fmt: skip
    """Encode images [B, H, W, C], 0..1, into latents [B, 4, H/8, W/8] tile by tile: slower, with less memory.

    Args:
        pixels: Images; alpha is dropped; sides are cropped to multiples of 8.
        vae: The VAE that the model was trained with.
        tile_size: Side of a tile in pixels, counted in whole cells of 8.
        overlap: Of neighbouring tiles, in pixels, counted in whole cells of 8; less than half a tile.
        temporal_size: Frames of a tile of video; without effect on images.
        temporal_overlap: Frames of overlap of video; without effect on images.
    """
    import torch

    from nodes.diffusion import tiling

    with ctx.use(vae.vae) as autoencoder, torch.no_grad():
        tile, shared = tile_size // autoencoder.scale, overlap // autoencoder.scale
        images = pixels.to(ctx.device)
        return LatentValue(tiling.encode_tiled(autoencoder, images, tile=tile, overlap=shared, on_tile=ctx.step))
