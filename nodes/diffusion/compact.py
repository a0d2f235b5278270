"""Real-ESRGAN's compact network (SRVGGNetCompact), the smallest of the common upscalers.

Spandrel has it too. It stands here because importing spandrel costs 1.9 s of CPU beyond torch, most of it for
torchvision: a third more for the first picture.

Source: Wang et al. 2021, "Real-ESRGAN" (arXiv:2107.10833), and its repository, `realesrgan/archs/srvgg_arch.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

_NAME = re.compile(r"body\.\d+\.(weight|bias)")


class Compact(nn.Module):
    """Convolutions at the size of the input, then its pixels spread over a larger image, on top of the input enlarged.

    Args:
        channels: of the image, in and out.
        width: of the convolutions.
        depth: convolutions between the first and the last.
        scale: of each side.
    """

    def __init__(self, channels: int, width: int, depth: int, scale: int) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels * scale**2, 3, padding=1))
        self.upsampler = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h * scale, w * scale]."""
        return self.upsampler(self.body(x)) + interpolate(x, scale_factor=self.scale, mode="nearest")


def compact_of(state: Mapping[str, Tensor]) -> Compact | None:
    """The network with these weights; None where they are of another kind."""
    if "body.0.weight" not in state or not all(_NAME.fullmatch(name) for name in state):
        return None
    last = max(int(name.split(".")[1]) for name in state)
    if last % 2 or f"body.{last}.weight" not in state or state["body.0.weight"].ndim != 4:
        return None
    width, channels = state["body.0.weight"].shape[:2]
    scale = math.isqrt(len(state[f"body.{last}.weight"]) // channels)
    network = Compact(channels, width, last // 2 - 1, scale)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in state.items()}:
        return None
    network.load_state_dict(state)
    return network
