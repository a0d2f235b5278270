"""Upscalers: networks from image to image, tile by tile where memory asks for it.

Spandrel tells which of its architectures a file is of, and has the networks. A tile is run with more around it than is
kept, as far as the network sees, and fades into its neighbours; so no seam shows.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nodegraph.devices import Device
from nodegraph.errors import FileProblem
from nodes.diffusion.compact import compact_of
from nodes.diffusion.headers import PICKLES
from nodes.diffusion.tiling import OnTile, Tile, blended, tiles_of
from nodes.diffusion.upscalers import no_upscaler
from nodes.diffusion.weights import read_tensors, unpickled

_CONTEXT = 16  # pixels around a tile that are run and not kept, where the network's reach is not known
_REACH = 40  # pixels; a network that is known to see no further gets all of them, so that tiles change nothing
_FEATHER = 8  # pixels over which tiles fade into each other
_SMALLEST = 32  # side of a tile
_LARGEST = {"cpu": 512}  # further pixels at once gain nothing, and delay progress
_LARGEST_ELSEWHERE = 1024
_PIXEL_BYTES = 48_000  # of memory for a pixel of the input in float32, at factors up to 4; measured: ESRGAN takes
# 15 kB, SwinIR 18 kB, DAT 19 kB and HAT 46 kB
_SHARE = 0.8  # of the free memory that a tile may take


class UpscaleNetwork(nn.Module):
    """A network from image to image, and what is to be known to run it.

    Attributes:
        scale: of each side; 1 for one that cleans images.
        channels: of the images it takes.
        is_local: False where tiles would show, since the network looks at the whole image.
        context: pixels that a tile needs around it.
    """

    def __init__(
        self, network: nn.Module, run: Callable[[Tensor], Tensor], *, scale: int, channels: int, is_local: bool = True
    ) -> None:
        super().__init__()
        self.network, self._run = network, run
        self.scale, self.channels, self.is_local = scale, channels, is_local
        reach = _reach_of(network)
        self.context = reach if reach is not None and reach <= _REACH else _CONTEXT

    def forward(self, x: Tensor) -> Tensor:
        """[1, C, h, w], 0..1 -> [1, C', h * scale, w * scale] float32, 0..1."""
        weight = next(self.parameters())
        return self._run(x.to(weight.device, weight.dtype)).float().clamp(0, 1)


def load_upscaler(path: str | Path, device: torch.device | str, dtype: torch.dtype) -> UpscaleNetwork:
    """Builds the network that a file has the weights of.

    Args:
        path: a .safetensors file, or a pickle as training tools save it, of which only tensors are read.
        device: where to.
        dtype: float16 is taken on devices other than the CPU only, and like bfloat16 only where the network is known
            to bear it; else float32.

    Raises:
        FileProblem: it is damaged, would have to run code, or is no upscaler; it says what it is instead.
    """
    path = Path(path)
    state = _state(path)
    compact = compact_of(state)
    if compact is not None:
        found = UpscaleNetwork(compact, compact, scale=compact.scale, channels=compact.channels)
        bears = {torch.float16, torch.bfloat16}
    else:
        descriptor = _by_spandrel(path.name, state)
        found = UpscaleNetwork(
            descriptor.model, descriptor, scale=descriptor.scale, channels=descriptor.input_channels,
            is_local=descriptor.tiling.name == "SUPPORTED",
        )  # fmt: skip
        bears = {torch.float16} if descriptor.supports_half else set[torch.dtype]()
        bears |= {torch.bfloat16} if descriptor.supports_bfloat16 else set()
    if torch.device(device).type == "cpu":
        bears.discard(torch.float16)
    return found.to(device, dtype if dtype in bears else torch.float32).requires_grad_(False).eval()


def upscaled(network: UpscaleNetwork, images: Tensor, *, on_tile: OnTile, free: int | None = None) -> Tensor:
    """Runs a network over images; each side becomes `scale` times as long.

    Colours run together; a network for grey images runs over each channel, alpha runs as a grey image. Where memory
    runs out, tiles are halved until they are too small to be of use.

    Args:
        network: which.
        images: [B, H, W, C], 0..1; C is 1, 3, or 4 with alpha.
        on_tile: called as on_tile(i, n) after tile i of n, the first is 1; of all images and channels.
        free: bytes that may be had; asked of the device by default.

    Returns:
        [B, H * scale, W * scale, C] float32, 0..1.

    Raises:
        ValueError: the network takes images of other channels.
    """
    parts = [_parts(item[None].movedim(-1, 1), network.channels) for item in images]
    device = next(network.parameters()).device
    free = _free(device) if free is None else free
    side = _side(network, free, max(images.shape[1:3]))
    while True:
        try:
            with torch.no_grad():
                return _assembled(network, images, parts, side, free, on_tile)
        except RuntimeError as error:
            if not _is_out_of_memory(error) or side // 2 < _SMALLEST:
                raise
        Device(device.type).release()
        side //= 2


def _assembled(
    network: UpscaleNetwork, images: Tensor, parts: list[list[Tensor]], side: int, free: int, on_tile: OnTile
) -> Tensor:
    """The images of what each part of each becomes, in tiles of that side."""
    batch, height, width, channels = images.shape
    side = max(side, _FEATHER + 1)
    tiles = tiles_of(height, width, (side, side), _FEATHER)
    total, done = sum(len(item) for item in parts) * len(tiles), 0
    is_large = images.nbytes * network.scale**2 * 3 > free // 4
    home = torch.device("cpu") if is_large else next(network.parameters()).device

    def of_part(part: Tensor) -> Tensor:
        def of_tile(tile: Tile) -> Tensor:
            nonlocal done
            found = _with_context(network, part, tile).to(home)
            done += 1
            on_tile(done, total)
            return found

        return blended(tiles, of_tile, height, width, _FEATHER, network.scale)

    found = [_joined([of_part(part) for part in item], channels, network.channels) for item in parts]
    return torch.cat(found).movedim(1, -1).contiguous() if batch else images


def _with_context(network: UpscaleNetwork, image: Tensor, tile: Tile) -> Tensor:
    """What a tile of [1, C, H, W] becomes, seen with its surroundings."""
    height, width = image.shape[-2:]
    top, left = max(0, tile.top - network.context), max(0, tile.left - network.context)
    bottom = min(height, tile.top + tile.height + network.context)
    right = min(width, tile.left + tile.width + network.context)
    found = network(image[..., top:bottom, left:right])
    return Tile(tile.top - top, tile.left - left, tile.height, tile.width).of(found, network.scale)


def _parts(image: Tensor, wanted: int) -> list[Tensor]:
    """What of [1, C, H, W] runs through a network of so many channels."""
    has = image.shape[1]
    if wanted == 1:
        return list(image.split(1, 1))
    if wanted == 3 and has in (1, 3, 4):
        return [part.expand(-1, 3, -1, -1) for part in (image.split([3, 1], 1) if has == 4 else [image])]
    if wanted == 4 and has in (1, 3, 4):
        alpha = torch.ones_like(image[:, :1])
        return [image if has == 4 else torch.cat([image.expand(-1, 3, -1, -1), alpha], 1)]
    raise ValueError(
        f"the upscaler takes images of {wanted} channels and was given images of {has}; choose one for colour pictures"
    )


def _joined(parts: list[Tensor], channels: int, taken: int) -> Tensor:
    """The image [1, C, H, W] of its parts: the reverse of `_parts`."""
    if taken == 3 and channels == 4:
        return torch.cat([parts[0], parts[1].mean(1, keepdim=True)], 1)
    found = torch.cat(parts, 1)
    if channels == 1 and found.shape[1] > 1:
        return found[:, :3].mean(1, keepdim=True)
    return found.expand(-1, 3, -1, -1) if found.shape[1] == 1 < channels else found[:, :channels]


def _side(network: UpscaleNetwork, free: int, longest: int) -> int:
    """The side of a tile in pixels: as much as memory bears, and no more than is of use."""
    weight = next(network.parameters())
    pixel = _PIXEL_BYTES * max(1, network.scale / 4) * weight.element_size() / 4
    side = max(_SMALLEST, math.isqrt(int(free * _SHARE / pixel)) - 2 * network.context)
    if network.is_local:
        side = min(side, _LARGEST.get(weight.device.type, _LARGEST_ELSEWHERE))
    return min(side, longest)


def _free(device: torch.device) -> int:
    """Bytes that may be had on a device: what the system has, and what torch keeps for later."""
    free = Device(str(device)).memory()[0]
    if device.type == "cuda":
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _reach_of(network: nn.Module) -> int | None:
    """How many pixels away from a pixel a network of plain convolutions sees, at most; None for others."""
    reach = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if module.stride != (1, 1):
                return None
            reach += module.kernel_size[0] // 2 * module.dilation[0]
        elif not isinstance(module, nn.PReLU) and next(module.parameters(recurse=False), None) is not None:
            return None
    return reach


def _state(path: Path) -> Mapping[str, Any]:
    """The tensors of a file by name, without the wrappers and prefixes that training tools put around them."""
    if path.suffix.lower() in PICKLES:
        instead = "is not an upscaler that torch can read (TorchScript is code, and refused); use another version"
        found = unpickled(path, instead)
        if not isinstance(found, dict):
            raise FileProblem(f"{path.name}: holds no named tensors; choose another file")
        wrappers = ("model_state_dict", "state_dict", "params_ema", "params-ema", "params", "model", "net")
        inner = [found[name] for name in wrappers if isinstance(found.get(name), dict)]
        found = inner[0] if inner else found
    else:
        found = dict(read_tensors(path))
    return {str(name).removeprefix("module.").removeprefix("netG."): value for name, value in found.items()}


def _by_spandrel(where: str, state: Mapping[str, Any]) -> Any:
    """What spandrel makes of the tensors of a file.

    Raises:
        FileProblem: it does not know them, they do not fit each other, or the network needs more than an image.
    """
    from spandrel import MAIN_REGISTRY, ImageModelDescriptor, UnsupportedModelError

    registry = MAIN_REGISTRY.copy()
    with contextlib.suppress(ImportError):  # networks that are not free for every use, where somebody installed them
        from spandrel_extra_arches import EXTRA_REGISTRY  # pyright: ignore[reportMissingImports]

        registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how some of these networks are written
            found = registry.load(dict(state))
    except UnsupportedModelError as error:
        raise no_upscaler(where, state) from error
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FileProblem(
            f"{where}: has tensors that do not fit each other ({reason}); it is incomplete, download it again"
        ) from error
    if not isinstance(found, ImageModelDescriptor):
        raise FileProblem(
            f"{where}: is a model for {found.purpose.lower()} ({found.architecture.name}), which needs a mask; "
            "an upscaler takes an image alone"
        )
    return found
