"""Previews: a linear map to colours, TAESD where its weights are there, and never an end to the work."""

from __future__ import annotations

import io
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from nodegraph.context import Context
from nodegraph.errors import FileProblem, Interrupted
from nodegraph.files import Folders
from nodegraph.previews import Previews as PreviewThread
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.previews import Previews, TinyPart
from nodes.diffusion.taesd import TinyDecoder, read_decoder

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False,
)  # fmt: skip


class Host:
    """A context that keeps what it is told."""

    def __init__(self, home: Path) -> None:
        self.files = Folders.of(home)
        self.steps: list[tuple[int, int]] = []
        self.makes: list[Any] = []
        self.loads: list[TinyPart] = []
        self.is_cancelled = False

    def use(self, part: TinyPart) -> AbstractContextManager[TinyDecoder]:
        self.loads.append(part)
        return nullcontext(part.load(torch.device("cpu"), torch.float32))

    def check(self) -> None:
        if self.is_cancelled:
            raise Interrupted

    def step(self, i: int, n: int, preview: Any) -> None:
        self.check()
        self.steps.append((i, n))
        self.makes.append(preview)


def previews(host: Host, family: Any = "sd1", checkpoint: str = "models/checkpoints/dreams.safetensors") -> Previews:
    return Previews(cast(Context, host), Part(checkpoint, "", "unet", family, CONFIG))


def picture(host: Host, shown: Previews, x0: Tensor) -> Image.Image:
    shown.step(1, 4, x0)
    format, image = host.makes[-1]()
    assert format == "jpeg"
    return Image.open(io.BytesIO(image))


def colour(x0: Tensor, home: Path, family: str) -> tuple[int, ...]:
    host = Host(home)
    found = picture(host, previews(host, family), x0)
    assert found.format == "JPEG" and found.size == (x0.shape[3], x0.shape[2])
    assert all(low == high for low, high in cast(Any, found.getextrema()))
    return cast(Any, found.getpixel((0, 0)))


def put(home: Path, name: str, shade: float) -> None:
    """A decoder that makes everything of one shade."""
    decoder = TinyDecoder(width=2)
    tensors = {key: torch.zeros_like(tensor) for key, tensor in decoder.state_dict().items()}
    last = max(int(key.split(".")[0]) for key in tensors)
    tensors[f"{last}.bias"] = torch.full((3,), shade)
    path = home / "models" / "vae_approx" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def shade(host: Host, **named: Any) -> float:
    found = picture(host, previews(host, **named), torch.randn(1, 4, 8, 6))
    assert found.size == (48, 64)
    return round(cast(Any, found.getpixel((20, 20)))[0] / 255, 1)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("sd1", (0.3444 / 2 + 0.1247, 0.1385 / 2 + 0.4027, 0.0670 / 2 + 0.1494)),
        ("sdxl", (0.3816 / 2 - 0.3753, 0.4930 / 2 + 0.1631, 0.5320 / 2 + 0.1739)),
    ],
)
def test_a_constant_latent_is_one_colour(tmp_path: Path, family: str, expected: tuple[float, ...]) -> None:
    x0 = torch.tensor([0.5, 1.0, 0.0, 0.0]).reshape(1, 4, 1, 1).expand(2, 4, 10, 7)
    wanted = [(value + 1) / 2 * 255 for value in expected]
    for name in (family, {"sd1": "sd2", "sdxl": "sdxl_refiner"}[family]):
        assert colour(x0, tmp_path, name) == pytest.approx(wanted, abs=3)


def test_the_first_latent_of_a_batch_is_shown_and_colours_are_clamped(tmp_path: Path) -> None:
    x0 = torch.stack([torch.full((4, 8, 8), 20.0), torch.zeros(4, 8, 8)])
    assert colour(x0, tmp_path, "sd1") == pytest.approx((0.692 * 255, 255, 0), abs=2)
    assert colour(x0.flip(0), tmp_path, "sd1") == pytest.approx((127, 127, 127), abs=2)


def test_a_large_preview_is_made_smaller(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert picture(host, previews(host), torch.zeros(1, 4, 128, 1024)).size == (512, 64)


def test_a_decoder_of_the_family_is_taken_where_it_is_there(tmp_path: Path) -> None:
    put(tmp_path, "taesd_decoder.safetensors", 0.2)
    put(tmp_path, "taesdxl_decoder.safetensors", 0.6)
    host = Host(tmp_path)
    assert [shade(host, family=family) for family in ("sd1", "sd2", "sdxl", "sdxl_refiner")] == [0.2, 0.2, 0.6, 0.6]


def test_a_decoder_of_the_checkpoint_goes_before_that_of_the_family(tmp_path: Path) -> None:
    put(tmp_path, "taesd_decoder.safetensors", 0.2)
    put(tmp_path, "mine/dreams-preview.safetensors", 0.8)
    host = Host(tmp_path)
    assert shade(host) == 0.8
    assert shade(host, checkpoint="models/checkpoints/other.safetensors") == 0.2


def test_a_decoder_is_looked_for_once_a_run(tmp_path: Path) -> None:
    put(tmp_path, "taesd_decoder.safetensors", 0.2)
    host = Host(tmp_path)
    shown = previews(host)
    for _ in range(3):
        picture(host, shown, torch.zeros(1, 4, 8, 8))
    assert len(host.loads) == 1


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_a_broken_decoder_does_no_harm(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "models" / "vae_approx"
    folder.mkdir(parents=True)
    (folder / "taesd_decoder.safetensors").write_bytes(content)
    host, made, done = Host(tmp_path), list[str](), threading.Event()

    def emit(node: str, format: str, image: bytes) -> None:
        made.append(format)
        done.set()

    shown = previews(host)
    thread = PreviewThread(emit)
    for i in (1, 2):
        shown.step(i, 2, torch.zeros(1, 4, 8, 8))
    thread.offer("a", host.makes[0])
    thread.offer("b", host.makes[1])
    assert done.wait(30) and made == ["jpeg"] and host.steps == [(1, 2), (2, 2)]


def test_a_file_that_is_no_decoder_says_so(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(FileProblem, match=r"some.safetensors is no TAESD decoder; expected the tensors of"):
        read_decoder(path)
    save_file({"1.weight": torch.zeros(8, 4, 3, 3)}, path)
    with pytest.raises(FileProblem, match=r"some.safetensors is no TAESD decoder: Missing key"):
        read_decoder(path)


def test_a_decoder_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder = TinyDecoder(4, 8)
    save_file({key: tensor.half() for key, tensor in decoder.state_dict().items()}, tmp_path / "d.safetensors")
    found = read_decoder(tmp_path / "d.safetensors")
    x0 = torch.randn(1, 4, 5, 3)
    assert found(x0).shape == (1, 3, 40, 24) and not found(x0).requires_grad
    torch.testing.assert_close(found(x0), decoder(x0), rtol=1e-2, atol=1e-2)


def test_far_out_latents_are_bent_towards_three() -> None:
    assert TinyDecoder(4, 8)[0](torch.tensor([0.1, 3.0, -300.0])).tolist() == pytest.approx(
        [0.1, 2.285, -3.0], abs=1e-3
    )


def test_a_cancelled_run_ends_at_its_next_check(tmp_path: Path) -> None:
    host = Host(tmp_path)
    shown = previews(host)
    shown.check()
    host.is_cancelled = True
    with pytest.raises(Interrupted):
        shown.check()
    with pytest.raises(Interrupted):
        shown.step(1, 4, torch.zeros(1, 4, 8, 8))
