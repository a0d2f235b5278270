"""Upscalers of every common kind in their tools' layouts, against spandrel's own networks; tiles; what is refused.

The networks are small, with random weights. What is compared is the forward pass of spandrel's network with the same
weights, on the whole image.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodegraph.errors import FileProblem
from nodes.diffusion import upscaling
from nodes.diffusion.compact import Compact, compact_of
from nodes.diffusion.upscaling import UpscaleNetwork, load_upscaler, upscaled


def esrgan() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=8, num_blocks=3, scale=4)


def new_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an ESRGAN of three blocks under the names of Real-ESRGAN."""
    places = {"model.0": "conv_first", "model.1.sub.3": "conv_body", "model.3": "conv_up1", "model.6": "conv_up2",
              "model.8": "conv_hr", "model.10": "conv_last"}  # fmt: skip
    found = {}
    for name, tensor in state.items():
        place, _, kind = name.rpartition(".")
        if place not in places:
            _, _, _, block, dense, conv, _ = place.split(".")
            places[place] = f"body.{block}.{dense.lower()}.{conv}"
        found[f"{places[place]}.{kind}"] = tensor
    return found


def compact() -> nn.Module:
    from spandrel.architectures.Compact import Compact as Theirs

    return Theirs(num_feat=8, num_conv=3, upscale=2)


def swinir() -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    return SwinIR(upscale=2, img_size=16, window_size=8, depths=[2], embed_dim=12, num_heads=[2], mlp_ratio=2,
                  upsampler="nearest+conv", resi_connection="1conv")  # fmt: skip


def hat() -> nn.Module:
    from spandrel.architectures.HAT import HAT

    return HAT(upscale=2, img_size=16, window_size=16, depths=[1], embed_dim=12, num_heads=[2], mlp_ratio=2,
               compress_ratio=3, squeeze_factor=6, overlap_ratio=0.5, upsampler="pixelshuffle")  # fmt: skip


def dat() -> nn.Module:
    from spandrel.architectures.DAT import DAT

    return DAT(upscale=2, img_size=16, split_size=[8, 8], depth=[2], embed_dim=32, num_heads=[2], expansion_factor=2)


def denoiser() -> nn.Module:
    from spandrel.architectures.DnCNN import DnCNN

    return DnCNN(in_nc=1, out_nc=1, nc=8, nb=9, act_mode="R")


def wild(network: nn.Module) -> nn.Module:
    """A network in evaluation mode whose every weight matters."""
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        spread = 0.5 / math.sqrt(max(weight[0].numel(), 1)) if weight.ndim > 1 else 0.1
        weight.data = torch.randn(weight.shape, generator=generator) * spread
    return network.eval().requires_grad_(False)


def image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def ignored(i: int, n: int) -> None:
    """Takes progress that nobody looks at."""


def saved(tmp_path: Path, content: Any, name: str = "model.pth") -> Path:
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def expected(network: nn.Module, images: Tensor) -> Tensor:
    rows = [network(item[None].movedim(-1, 1)).clamp(0, 1).movedim(1, -1) for item in images]
    return torch.cat(rows)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # as SwinIR is written
@pytest.mark.parametrize(("make", "wrapped", "scale"), [
    (esrgan, dict, 4),
    (esrgan, lambda state: {"params_ema": new_names(state)}, 4),
    (compact, lambda state: {"params": state}, 2),
    (swinir, lambda state: {"params_ema": state}, 2),
    (swinir, lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, 2),
    (hat, lambda state: {"params_ema": state, "params": {}}, 2),
    (dat, lambda state: {"params": state}, 2),
], ids=["ESRGAN, old names", "Real-ESRGAN", "compact", "SwinIR", "SwinIR of several GPUs", "HAT", "DAT"])  # fmt: skip
def test_a_file_of_each_kind_runs_as_spandrels_network(
    tmp_path: Path, make: Callable[[], nn.Module], wrapped: Callable[[Any], Any], scale: int
) -> None:
    network = wild(make())
    found = load_upscaler(saved(tmp_path, wrapped(network.state_dict())), "cpu", torch.float32)
    pictures = image(2, 24, 32, 3)
    result = upscaled(found, pictures, on_tile=ignored)
    assert found.scale == scale and result.shape == (2, 24 * scale, 32 * scale, 3)
    assert result.is_contiguous() and not result.is_inference()
    assert result.std() > 0.02  # not the same everywhere
    torch.testing.assert_close(result, expected(network, pictures), rtol=0, atol=1e-5)


def test_a_safetensors_file_in_half_precision_runs_in_float32_on_a_cpu(tmp_path: Path) -> None:
    network = wild(compact()).half()
    path = saved(tmp_path, network.state_dict(), "x2.safetensors")
    found = load_upscaler(path, "cpu", torch.float16)
    assert {weight.dtype for weight in found.parameters()} == {torch.float32}
    pictures = image(1, 9, 7, 3)
    wanted = expected(network.float(), pictures)
    torch.testing.assert_close(upscaled(found, pictures, on_tile=ignored), wanted, rtol=0, atol=1e-5)
    rounded = upscaled(load_upscaler(path, "cpu", torch.bfloat16), pictures, on_tile=ignored)
    assert rounded.dtype == torch.float32 and 0 < (rounded - wanted).abs().max() < 0.05


def test_a_compact_network_is_read_without_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, wild(compact()).state_dict(), "x2.safetensors")
    monkeypatch.setitem(sys.modules, "spandrel", None)  # to import it would now fail
    assert isinstance(load_upscaler(path, "cpu", torch.float32).network, Compact)
    assert compact_of({"body.0.weight": torch.zeros(8, 3, 3, 3), "body.1.weight": torch.zeros(8)}) is None


def test_a_model_of_grey_images_runs_over_each_channel(tmp_path: Path) -> None:
    network = wild(denoiser())
    found = load_upscaler(saved(tmp_path, network.state_dict()), "cpu", torch.float32)
    pictures = image(1, 20, 17, 3)
    assert (found.scale, found.channels) == (1, 1)
    wanted = torch.cat([expected(network, pictures[..., i : i + 1]) for i in range(3)], -1)
    torch.testing.assert_close(upscaled(found, pictures, on_tile=ignored), wanted, rtol=0, atol=1e-5)


def pixels(channels: int, scale: int = 2) -> UpscaleNetwork:
    """A network that repeats pixels."""
    network = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    nn.init.ones_(network.weight)
    enlarge = nn.Upsample(scale_factor=scale)
    return UpscaleNetwork(network, lambda x: enlarge(network(x)), scale=scale, channels=channels).requires_grad_(False)


@pytest.mark.parametrize(("taken", "given"), [(3, 1), (3, 3), (3, 4), (4, 3), (4, 4), (1, 4), (1, 1), (4, 1)])
def test_images_of_every_kind_run_through_models_of_every_kind(taken: int, given: int) -> None:
    picture = image(1, 5, 6, given)
    found = upscaled(pixels(taken), picture, on_tile=ignored)
    torch.testing.assert_close(found, picture.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_model_of_other_channels_is_told() -> None:
    with pytest.raises(ValueError, match="takes images of 6 channels and was given images of 3"):
        upscaled(pixels(6), image(1, 4, 4, 3), on_tile=ignored)


def test_tiles_of_a_network_with_a_short_reach_change_nothing() -> None:
    network = wild(Compact(3, 8, 3, 2))
    found = UpscaleNetwork(network, network, scale=2, channels=3)
    assert found.context == 5  # one pixel for each of its convolutions
    pictures = image(2, 70, 101, 3)
    steps: list[tuple[int, int]] = []
    tiled = upscaled(found, pictures, on_tile=lambda i, n: steps.append((i, n)), free=4_000_000)
    assert steps == [(i, 24) for i in range(1, 25)]  # 3 rows of 4 tiles of 32 pixels, twice
    torch.testing.assert_close(tiled, expected(network, pictures), rtol=0, atol=2e-6)


def test_tiles_of_a_network_that_sees_further_leave_no_seam() -> None:
    network = wild(esrgan())
    found = UpscaleNetwork(network, network, scale=4, channels=3)
    assert found.context == 16 and sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 51
    picture = nn.functional.interpolate(image(1, 3, 12, 14), size=(60, 70), mode="bicubic").clamp(0, 1).movedim(1, -1)
    steps: list[int] = []
    tiled = upscaled(found, picture, on_tile=lambda i, n: steps.append(n), free=4_000_000)
    whole = expected(network, picture)
    assert steps[-1] == 9
    assert (tiled - whole).abs().max() < 1 / 255


def failing_above(limit: int) -> tuple[UpscaleNetwork, list[tuple[int, int]]]:
    """A network that runs out of memory for images with a side above a limit, and the sizes it was given."""
    found, sizes = pixels(3), []
    run = found._run

    def limited(x: Tensor) -> Tensor:
        sizes.append((x.shape[-2], x.shape[-1]))
        if max(x.shape[-2:]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(x)

    found._run = limited
    return found, sizes


def test_tiles_are_halved_while_memory_runs_out() -> None:
    found, sizes = failing_above(100)
    picture = image(1, 150, 300, 3)
    result = upscaled(found, picture, on_tile=ignored)
    torch.testing.assert_close(result, picture.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert sizes[0] == (150, 300) and sizes[1][1] == 150 and max(sizes[2]) <= 100


def test_memory_that_is_never_enough_is_told_as_such() -> None:
    found, sizes = failing_above(1)
    with pytest.raises(torch.OutOfMemoryError):
        upscaled(found, image(1, 70, 70, 3), on_tile=ignored)
    assert len(sizes) == 2  # of 70, then of 35


def test_tiles_are_as_large_as_the_memory_that_is_free_allows() -> None:
    network = pixels(3, 4)
    sides = [upscaling._side(network, free, 5000) for free in (0, 1 << 28, 1 << 30, 1 << 40)]
    assert sides == [32, 66, 133, 512]
    network.is_local = False
    assert upscaling._side(network, 1 << 40, 5000) == 4280


def test_what_stops_a_run_between_tiles_is_passed_on() -> None:
    def stop(i: int, n: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        upscaled(pixels(3), image(1, 70, 70, 3), on_tile=stop, free=0)


@pytest.mark.parametrize(("state", "message"), [
    ({"unet.lora_down.weight": torch.zeros(1, 1)}, "is a LoRA, not an upscaler; put it in the `loras` folder"),
    ({"decoder.conv_in.weight": torch.zeros(1)}, "is a VAE, not an upscaler; put it in the `vae` folder"),
    ({"model.diffusion_model.a": torch.zeros(1), "first_stage_model.b": torch.zeros(1)}, "is a checkpoint, not an"),
    ({"weight": torch.zeros(1)}, "is not an upscaler of an architecture that spandrel knows; choose another file"),
    ({"upsampler.weight": torch.zeros(1)}, "is not an upscaler of an architecture that spandrel knows"),
], ids=["LoRA", "VAE", "checkpoint", "nothing", "unknown upscaler"])  # fmt: skip
def test_a_file_that_is_no_upscaler_is_told_by_what_it_is(tmp_path: Path, state: Any, message: str) -> None:
    with pytest.raises(FileProblem, match=f"model.pth: {message}"):
        load_upscaler(saved(tmp_path, state), "cpu", torch.float32)


def test_an_incomplete_file_is_told(tmp_path: Path) -> None:
    state = wild(esrgan()).state_dict()
    del state["model.1.sub.0.RDB2.conv1.0.weight"]
    with pytest.raises(FileProblem, match=r"has tensors that do not fit each other .* download it again"):
        load_upscaler(saved(tmp_path, state), "cpu", torch.float32)


class Code:
    """A class of its own, which a pickle would have to import."""


@pytest.mark.parametrize(("content", "message"), [
    ({"params": {"body.0.weight": Code()}}, "would have to run code, which is refused"),
    ([torch.zeros(1)], "holds no named tensors"),
])  # fmt: skip
def test_a_pickle_of_more_than_tensors_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(FileProblem, match=message):
        load_upscaler(saved(tmp_path, content), "cpu", torch.float32)


def test_a_model_that_needs_a_mask_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import spandrel

    class Masked:
        purpose = "Inpainting"
        architecture = type("Architecture", (), {"name": "LaMa"})

    monkeypatch.setattr(spandrel.ArchRegistry, "load", lambda self, state: Masked())
    with pytest.raises(FileProblem, match=r"is a model for inpainting \(LaMa\), which needs a mask"):
        load_upscaler(saved(tmp_path, {"weight": torch.zeros(1)}), "cpu", torch.float32)


def test_further_architectures_are_found_where_their_package_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spandrel import MAIN_REGISTRY, ArchSupport, ImageModelDescriptor

    network = nn.Conv2d(3, 3, 1)

    class Further:
        id = name = "Further"

        def detect(self, state: Any) -> bool:
            return "weight" in state

        def load(self, state: Any) -> Any:
            return ImageModelDescriptor(
                network, state, self, "Restoration", [], supports_half=False, supports_bfloat16=False,  # type: ignore
                scale=1, input_channels=3, output_channels=3,
            )  # fmt: skip

    package = ModuleType("spandrel_extra_arches")
    package.EXTRA_REGISTRY = [ArchSupport.from_architecture(Further())]  # type: ignore
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", package)
    found = load_upscaler(saved(tmp_path, network.state_dict()), "cpu", torch.bfloat16)
    assert found.network is network and {weight.dtype for weight in found.parameters()} == {torch.float32}
    assert "Further" not in MAIN_REGISTRY
