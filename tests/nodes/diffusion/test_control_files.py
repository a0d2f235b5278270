"""What a file is: its kind and family, and what it is instead, found without torch."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.diffusion.control_files import (
    AdapterConfig,
    ControlNetConfig,
    control_family,
    control_problems,
    is_pooled,
    only_with_model,
    read_control,
)

MODELS = Path(__file__).parents[3] / "nodes" / "models"
NET, ADAPTER = (
    MODELS / "controlnet" / "starter-edges.safetensors",
    MODELS / "controlnet" / "starter-edges-adapter.safetensors",
)
BLOCK = "input_blocks.1.0."
LORA = {  # of a control-LoRA, as much as is looked at
    "lora_controlnet": (0,), "input_hint_block.0.weight": (16, 3, 3, 3), "input_hint_block.2.weight": (32, 16, 3, 3),
    "zero_convs.0.0.weight": (32, 32, 1, 1),
}  # fmt: skip
ATTENTION = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down"


def written(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A safetensors file of zeros, made without torch."""
    table: dict[str, object] = {}
    size = 0
    for name, shape in shapes.items():
        count = 2
        for side in shape:
            count *= side
        table[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [size, size + count]}
        size += count
    header = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    return path


def test_the_starters_files_are_read_from_shapes() -> None:
    net, adapter = read_control(NET, "a"), read_control(ADAPTER, "b")
    assert isinstance(net.config, ControlNetConfig) and net.config.unet is not None
    assert net.config.hint_widths == (16, 16, 32, 32, 64, 64, 128) and net.config.unet.channel_mult == (1, 1)
    assert adapter.config == AdapterConfig((128, 128))
    assert control_family(str(NET), "a") == "SD1 with prompts of 128 features"
    assert control_family(str(ADAPTER), "b") is None  # SD1 and SD2 have the same channels


@pytest.mark.parametrize(
    ("more", "family"),
    [
        ({ATTENTION: (4, 768)}, "SD1"),
        ({ATTENTION: (4, 1024)}, "SD2"),
        ({ATTENTION: (4, 2048), "label_emb.0.0.down": (4, 2816)}, "SDXL"),
    ],
)
def test_a_control_lora_tells_its_family(more: dict[str, tuple[int, ...]], family: str, tmp_path: Path) -> None:
    path = written(tmp_path / "lora.safetensors", LORA | more)
    assert read_control(path, "").kind == "control_lora" and control_family(str(path), family) == family


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora_unet_mid_block.lora_down.weight", "is a LoRA, not a ControlNet; put it in the `loras` folder"),
        ("controlnet_blocks.0.weight", "is a ControlNet of another family (Flux, SD3 or a relative), not a ControlNet"),
        ("lllite_unet_input_blocks_4.down.0.weight", "is a ControlNet-LLLite, not a ControlNet"),
        ("ip_adapter.1.to_k_ip.weight", "is an IP-Adapter, not a ControlNet"),
        ("zero_convs.0.0.weight", "is a ControlNet that lacks some of its tensors; download it again"),
        ("decoder.conv_in.weight", "is a VAE, not a ControlNet; put it in the `vae` folder"),
        ("something.weight", "is not a ControlNet of a supported kind; ControlNets, control-LoRAs and T2I-Adapters"),
    ],
)
def test_another_file_is_told_by_what_it_is(name: str, said: str, tmp_path: Path) -> None:
    (problem,) = control_problems(written(tmp_path / "x.safetensors", {name: (1, 1)}))
    assert problem.startswith(f"x.safetensors: {said}")


def test_a_whole_checkpoint_is_told(tmp_path: Path) -> None:
    (problem,) = control_problems(MODELS / "checkpoints" / "starter.safetensors")
    assert problem.endswith("put it in the `checkpoints` folder and load it with CheckpointLoaderSimple")


def test_a_file_of_differences_needs_its_model(tmp_path: Path) -> None:
    header = read_header_shapes(NET) | {"difference": (1,)}
    path = written(tmp_path / "diff.safetensors", header)
    assert read_control(path, "").kind == "difference"
    assert only_with_model(path) == [
        "diff.safetensors: holds differences from a model's weights; load it with DiffControlNetLoader"
    ]
    assert only_with_model(NET) == []


def read_header_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    table = json.loads(path.read_bytes()[8 : 8 + length])
    return {name: tuple(fields["shape"]) for name, fields in table.items() if name != "__metadata__"}


def test_a_net_for_shuffling_is_known_by_its_name() -> None:
    assert is_pooled("control_v11e_sd15_shuffle.pth") and is_pooled("a/control_v11e_sd15_shuffle_fp16.safetensors")
    assert not is_pooled("control_v11p_sd15_canny.pth")


def test_the_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(NET.read_bytes())
    assert read_control(other, "a").fingerprint == read_control(NET, "a").fingerprint
    assert read_control(other, "b").fingerprint != read_control(NET, "a").fingerprint


def test_reading_a_file_imports_no_torch() -> None:
    code = (
        f"import sys, nodes.controlnet; path = {str(NET)!r};"
        "from nodes.diffusion.control_files import control_problems, control_family;"
        "assert control_problems(path) == [] and control_family(path, ''); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
