"""Previews of latents while they are sampled: a linear map to colours, or TAESD where its weights are there."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from nodegraph.context import Context
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.file_weights import FileWeights
from nodes.diffusion.taesd import TinyDecoder, read_decoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodegraph.devices import DType
    from nodegraph.types import FileRef

_LONGEST = 512  # pixels of a preview's longer side
_FACTORS: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "sd1": ((0.3444, 0.1385, 0.0670), (0.1247, 0.4027, 0.1494), (-0.3192, 0.2513, 0.2103), (-0.1307, -0.1874, -0.7445)),
    "sdxl": ((0.3816, 0.4930, 0.5320), (-0.3753, 0.1631, 0.1739), (0.1770, 0.3588, -0.2048),
             (-0.4350, -0.2644, -0.4289)),
}  # fmt: skip
"""What each channel of a latent, as the UNet sees it, adds to red, green and blue, -1..1.

Fitted by torridgristle (SD1) and StAlKeR7779 (SDXL), as InvokeAI (Apache-2.0) has them.
"""
_FAMILIES = {"sd1": "sd1", "sd2": "sd1", "sdxl": "sdxl", "sdxl_refiner": "sdxl"}
_TAESD = {"sd1": "taesd_decoder", "sdxl": "taesdxl_decoder"}
_OF_A_CHECKPOINT = "{}-preview"  # a decoder for one model only, by the name of its file


class Previews:
    """Progress of sampling, with a preview of each step that can be made in time.

    Args:
        ctx: of the node that samples.
        unet: the model, whose family says what latents mean.
    """

    def __init__(self, ctx: Context, unet: Part[Any]) -> None:
        self._ctx, self._unet = ctx, unet
        self._family = _FAMILIES[unet.family]
        self._decoder: nn.Module | None = None
        self._is_found = False

    def check(self) -> None:
        """Raises Interrupted when the run was cancelled."""
        self._ctx.check()

    def step(self, i: int, n: int, x0: Tensor) -> None:
        """Tells a step, and shows the first latent of x0 [B, C, h, w], scaled as the UNet sees it."""
        self._ctx.step(i, n, lambda: ("jpeg", self._jpeg(x0[:1])))

    @torch.no_grad()
    def _jpeg(self, x0: Tensor) -> bytes:
        from PIL import Image

        pixels = (self._picture(x0.float())[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).cpu().numpy()
        picture = Image.fromarray(pixels)
        picture.thumbnail((_LONGEST, _LONGEST))
        found = io.BytesIO()
        picture.save(found, "jpeg", quality=90)
        return found.getvalue()

    def _picture(self, x0: Tensor) -> Tensor:
        """Colours [1, 3, H, W], 0..1."""
        if not self._is_found:
            self._is_found = True
            self._decoder = self._find_decoder()
        if self._decoder is not None:
            return self._decoder(x0.to(next(self._decoder.parameters()))).float()
        factors = x0.new_tensor(_FACTORS[self._family])
        return torch.einsum("bchw,cr->brhw", x0, factors) / 2 + 0.5

    def _find_decoder(self) -> nn.Module | None:
        wanted = (_OF_A_CHECKPOINT.format(Path(self._unet.path).stem), _TAESD[self._family])
        files = {Path(name).stem: name for name in reversed(self._ctx.files.names("vae_approx"))}
        name = next((files[stem] for stem in wanted if stem in files), None)
        if name is None:
            return None
        with self._ctx.use(TinyPart(self._ctx.files.find("vae_approx", name))) as decoder:
            return decoder


@dataclass(frozen=True, slots=True)
class TinyPart(FileWeights):
    """The weights of a preview decoder, as the engine loads models."""

    file: FileRef

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights."""
        return f"taesd-{self.file.digest}"

    @property
    @override
    def role(self) -> str:
        return "taesd"

    @property
    @override
    def dtype(self) -> DType:
        return "auto"

    def load(self, device: torch.device, dtype: torch.dtype, variants: Sequence[Any] = ()) -> TinyDecoder:
        """Builds the decoder. Raises FileProblem when the file is no such decoder."""
        return read_decoder(Path(self.file.path)).to(device, dtype)
