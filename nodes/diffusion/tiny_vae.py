"""TAESD in place of a VAE: where its two halves are. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.devices import DType

if TYPE_CHECKING:
    import torch

    from nodes.diffusion.taesd import TinyAutoencoder

LATENT_SCALES: Mapping[str, float] = {"taesd": 0.18215, "taesdxl": 0.13025}
"""By the names under which VAELoader offers it: what the latents it was trained on had been multiplied by."""


@dataclass(frozen=True, slots=True)
class TinyVae:
    """The weights of TAESD, as the engine loads models.

    Attributes:
        decoder: its file.
        encoder: its file, or None where there is none.
        digest: of the contents of both.
        latent_scale: latents are multiplied by this before the UNet sees them.
    """

    decoder: str
    encoder: str | None
    digest: str
    latent_scale: float

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights and scale."""
        fields = self.digest, self.encoder is None, self.latent_scale
        return f"tiny-vae-{hashlib.sha256(repr(fields).encode()).hexdigest()[:32]}"

    @property
    def base(self) -> str:
        """It has no variants."""
        return self.fingerprint

    @property
    def role(self) -> str:
        """That of any VAE."""
        return "vae"

    @property
    def dtype(self) -> DType:
        """What it is held in."""
        return "auto"

    @property
    def nbytes(self) -> int:
        """Bytes of its files."""
        return sum(Path(file).stat().st_size for file in (self.decoder, self.encoder) if file is not None)

    def load(self, device: torch.device | str, dtype: torch.dtype, variants: Sequence[Any] = ()) -> TinyAutoencoder:
        """Builds the autoencoder. Raises FileProblem when a file is none of its halves."""
        from nodes.diffusion.taesd import TinyAutoencoder, read_decoder, read_encoder

        encoder = None if self.encoder is None else read_encoder(Path(self.encoder))
        return TinyAutoencoder(read_decoder(Path(self.decoder)), encoder, self.latent_scale).to(device, dtype).eval()
