"""Loaders of parts: each takes its own kind of file, whatever tool named its tensors, and says what others are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph.context import Context
from nodegraph.files import Folders
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.types import FileRef
from nodes.diffusion.architecture import UNetConfig, VaeConfig
from nodes.diffusion.tiny_vae import TinyVae
from nodes.diffusion.weights import build
from nodes.part_loaders import load_clip, load_two_clips, load_unet, load_vae

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"
UNET = UNetConfig(4, 4, 32, (1, 2), (1, 1), (1, 0), 1, 24, 8, None, False)
VAE = VaeConfig(32, (1, 2), 1)


class Host:
    """The part of a context that these nodes use."""

    def __init__(self, home: Path) -> None:
        self.files = Folders.of(home)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def context(home: Path) -> Context:
    return cast(Context, Host(home))


def put(path: Path, content: dict[str, Tensor], metadata: dict[str, str] | None = None) -> FileRef:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path, metadata)
    else:
        torch.save(content, path)
    return FileRef(path.name, str(path), "digest of " + path.name)


def state_of(config: Any, prefix: str = "") -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {prefix + name: tensor for name, tensor in build(config).state_dict().items()}


def part_of_tiny(start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in load_file(TINY).items() if name.startswith(start)}


def spec(function: Callable[..., Any]) -> Any:
    found: NodeSpec = getattr(function, NODE_ATTRIBUTE)
    return found


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_unet_alone_is_loaded_with_or_without_its_prefix(tmp_path: Path, prefix: str, suffix: str) -> None:
    file = put(tmp_path / f"unet{suffix}", state_of(UNET, prefix))
    node = spec(load_unet)
    assert node.check(unet_name=file, weight_dtype="default") == []
    assert node.family(unet_name=file, weight_dtype="default") == (
        None if suffix == ".bin" else "SD1 with prompts of 24 features"
    )
    model = load_unet(ctx=context(tmp_path), unet_name=file, weight_dtype="default")
    module = model.unet.load("cpu", torch.float32)
    assert model.unet.config == UNET and model.patches == ()
    for name, tensor in state_of(UNET).items():
        assert torch.equal(module.state_dict()[name], tensor)


def test_a_unet_saved_by_diffusers_is_the_original(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    theirs = cast(Any, UNet2DConditionModel(
        block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), layers_per_block=1,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=24, attention_head_dim=8,
    ).eval())  # fmt: skip
    file = put(tmp_path / "unet.safetensors", theirs.state_dict())
    unet = load_unet(ctx=context(tmp_path), unet_name=file, weight_dtype="default").unet
    assert unet.config == UNET
    x, t, prompt = torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 5, 24)
    with torch.no_grad():
        torch.testing.assert_close(
            unet.load("cpu", torch.float32)(x, t, prompt), theirs(x, t, prompt).sample, rtol=1e-4, atol=1e-4
        )


def test_fp8_is_told_and_the_precision_left_to_the_session(tmp_path: Path) -> None:
    host = Host(tmp_path)
    file = put(tmp_path / "unet.safetensors", state_of(UNET))
    model = load_unet(ctx=cast(Context, host), unet_name=file, weight_dtype="fp8_e4m3fn")
    assert model.unet.dtype == "auto"
    assert host.notes == ["weight_dtype fp8_e4m3fn is not supported; the weights are held in the session's precision"]


def test_a_vae_alone_is_loaded_with_original_and_diffusers_names(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    theirs = cast(Any, AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
    ).eval())  # fmt: skip
    original = put(tmp_path / "kl.pt", {"state_dict": state_of(VAE) | {"loss.logvar": torch.zeros(())}})  # type: ignore[dict-item]
    converted = put(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", theirs.state_dict())
    for file in (original, converted):
        assert spec(load_vae).check(vae_name=file) == []
    found = load_vae(ctx=context(tmp_path), vae_name=original).vae.load("cpu", torch.float32)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in state_of(VAE).items())
    module = load_vae(ctx=context(tmp_path), vae_name=converted).vae.load("cpu", torch.float32)
    z = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        expected = (theirs.decode(z).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        torch.testing.assert_close(module.decode(z), expected, rtol=1e-4, atol=1e-4)


def test_taesd_is_a_vae_of_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "vae_approx"
    put(folder / "taesd_decoder.safetensors", {"1.weight": torch.zeros(1)})
    host = Host(tmp_path)
    file = host.files.find("vae", "taesd")
    assert spec(load_vae).check(vae_name=file) == []
    half = load_vae(ctx=cast(Context, host), vae_name=file).vae
    assert half == TinyVae(str(folder / "taesd_decoder.safetensors"), None, file.digest, 0.18215)
    put(folder / "taesdxl_decoder.pth", {"1.weight": torch.zeros(1)})
    put(folder / "taesdxl_encoder.pth", {"14.weight": torch.zeros(1)})
    file = host.files.find("vae", "taesdxl")
    assert load_vae(ctx=cast(Context, host), vae_name=file).vae == TinyVae(
        str(folder / "taesdxl_decoder.pth"), str(folder / "taesdxl_encoder.pth"), file.digest, 0.13025
    )


def test_a_text_encoder_alone_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    state = part_of_tiny("cond_stage_model.transformer.")
    file = put(tmp_path / "clip.safetensors", state)
    node = spec(load_clip)
    assert node.check(clip_name=file, type="stable_diffusion") == []
    hidden = state["text_model.final_layer_norm.weight"].numel()
    assert node.family(clip_name=file, type="stable_diffusion") == f"SD1 with prompts of {hidden} features"
    clip = load_clip(clip_name=file, type="stable_diffusion")
    assert [part.role for part in clip.encoders] == ["clip_l"] and clip.layer is None
    module = clip.encoders[0].load("cpu", torch.float32).state_dict()
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in module.items())
    assert node.check(clip_name=file, type="flux") == [
        "type 'flux' is of models that are not supported; choose 'stable_diffusion'"
    ]


def test_the_two_text_encoders_of_sdxl_are_told_apart(tmp_path: Path) -> None:
    def encoder(layers: int) -> dict[str, Tensor]:
        state = part_of_tiny("cond_stage_model.transformer.")
        block = {name: tensor for name, tensor in state.items() if ".layers.0." in name}
        more = {name.replace(".0.", f".{i}.", 1): x.clone() for i in range(1, layers) for name, x in block.items()}
        return {**state, **more}

    small, large = (put(tmp_path / f"{layers}.safetensors", encoder(layers)) for layers in (12, 32))
    node = spec(load_two_clips)
    for first, second in ((small, large), (large, small)):
        assert node.check(clip_name1=first, clip_name2=second, type="sdxl") == []
        clip = load_two_clips(clip_name1=first, clip_name2=second, type="sdxl")
        assert [(part.role, part.digest) for part in clip.encoders] == [
            ("clip_l", small.digest), ("clip_g", large.digest),
        ]  # fmt: skip
    width = sum(part.config.hidden for part in load_two_clips(clip_name1=small, clip_name2=large, type="sdxl").encoders)
    assert node.family(clip_name1=small, clip_name2=large, type="sdxl") == f"SDXL with prompts of {width} features"
    assert node.check(clip_name1=small, clip_name2=small, type="sdxl") == [
        "12.safetensors and 12.safetensors: are CLIP-L and CLIP-L; SDXL takes CLIP-L and OpenCLIP-G, one of each"
    ]
    assert node.check(clip_name1=small, clip_name2=large, type="sd3") == [
        "type 'sd3' is of models that are not supported; choose 'sdxl'"
    ]


WRONG: list[tuple[Any, str, dict[str, Tensor], str]] = [
    (load_vae, "vae_name", {"lora_unet_a.lora_down.weight": torch.zeros(1, 1)}, "is a LoRA, not a VAE; put it in"),
    (
        load_vae,
        "vae_name",
        {"1.weight": torch.zeros(1), "3.conv.0.weight": torch.zeros(1)},
        "is a half of TAESD, not a VAE; put it in the `vae_approx` folder and choose taesd or taesdxl in VAELoader",
    ),
    (load_unet, "unet_name", {"decoder.conv_in.weight": torch.zeros(1)}, "is a VAE, not a UNet; put it in the `vae`"),
    (load_unet, "unet_name", {"control_model.a": torch.zeros(1)}, "is a ControlNet, not a UNet"),
    (load_clip, "clip_name", {"input_blocks.0.0.weight": torch.zeros(1)}, "is a UNet alone, not a text encoder"),
    (load_two_clips, "clip_name1", {"string_to_param": torch.zeros(1)}, "is a textual inversion, not a text encoder"),
]


@pytest.mark.parametrize(("function", "name", "content", "words"), WRONG)
def test_a_wrong_file_is_told_at_planning(
    tmp_path: Path, function: Any, name: str, content: dict[str, Tensor], words: str
) -> None:
    (problem,) = spec(function).check(**{name: put(tmp_path / "x.safetensors", content)})
    assert problem.startswith(f"x.safetensors: {words}")


def test_a_pickle_is_only_sniffed_at_and_a_link_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_bytes(b"<html>")
    page = FileRef("page.pt", str(tmp_path / "page.pt"), "d")
    for function, name in ((load_vae, "vae_name"), (load_unet, "unet_name"), (load_clip, "clip_name")):
        assert [problem for problem in spec(function).check(**{name: page}) if "is a web page" not in problem] == []
        assert spec(function).check() == []
    assert spec(load_clip).family(clip_name=page) is None
    assert spec(load_two_clips).family(clip_name1=page, clip_name2=page) is None


def test_declaring_and_checking_the_nodes_imports_no_torch(tmp_path: Path) -> None:
    state = {
        f"cond_stage_model.transformer.{name}": x for name, x in part_of_tiny("cond_stage_model.transformer.").items()
    }
    path = put(tmp_path / "clip.safetensors", state).path
    code = (
        "import sys, nodes.part_loaders as p, nodes.hypernetwork; from nodegraph.types import FileRef;"
        f"file = FileRef('a', {json.dumps(path)}, 'd');"
        "assert p._clip_problems(clip_name=file) == [] and p._clip_family(clip_name=file).startswith('SD1');"
        f"file = FileRef('a', {json.dumps(str(TINY))}, 'd');"
        "assert p._vae_problems(vae_name=file) == [] and p._unet_problems(unet_name=file) == [];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
