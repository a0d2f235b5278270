"""Between images and latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph.context import Context
from nodegraph.spec import node
from nodes.types import Image, Latent, LatentValue, Vae

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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
