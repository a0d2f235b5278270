"""Loading ControlNets, and steering pictures by them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from nodegraph import codec
from nodegraph.errors import WorkflowError
from nodegraph.session import Session, Settings
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.types import FileRef
from nodegraph.workflow import Workflow
from nodes.controlnet import (
    apply,
    apply_advanced,
    load_controlnet,
    load_diff_controlnet,
    set_union_type,
)
from nodes.diffusion.control_files import ControlNetConfig, UnionConfig
from nodes.types import Cond, ControlNetValue, ControlUse, ModelValue
from training import captions, controlnet, vae
from training.scenes import random_scene, render

MODELS = Path(__file__).parents[2] / "nodes" / "models"
NET, ADAPTER = (MODELS / "controlnet" / f"starter-edges{end}.safetensors" for end in ("", "-adapter"))
TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-controlnet.safetensors"
LORA = MODELS / "loras" / "starter-striped.safetensors"
PROMPT = (Cond(torch.zeros(1, 77, 128)),)
HINT = torch.zeros(1, 16, 16, 3)
DENOISER: Any = "of a model"


def loaded(path: Path = NET, name: str = "") -> ControlNetValue:
    return load_controlnet(control_net_name=FileRef(name or path.name, str(path), "digest"))


def uses(conditioning: tuple[Cond, ...]) -> list[tuple[ControlUse, ...]]:
    return [cond.options.get("control", ()) for cond in conditioning]


def test_applying_adds_to_the_chain_and_leaves_the_prompt_as_it_was() -> None:
    first, second = loaded(), loaded(ADAPTER)
    once = apply(conditioning=PROMPT, control_net=first, image=HINT, strength=0.5)
    twice = apply_advanced(
        positive=once, negative=PROMPT, control_net=second, image=HINT, start_percent=0.2, end_percent=0.7,
        mask=torch.ones(1, 16, 16),
    )  # fmt: skip
    assert PROMPT[0].options == {} and once[0].options["control_apply_to_uncond"] is True
    ((one, other),), ((alone,),) = uses(twice.positive), uses(twice.negative)
    assert (one.control, one.strength, other.control) == (first, 0.5, second) and alone is other
    assert (other.start_percent, other.end_percent) == (0.2, 0.7) and other.mask is not None
    assert twice.positive[0].options["control_apply_to_uncond"] is False


def test_no_strength_changes_nothing() -> None:
    assert apply(conditioning=PROMPT, control_net=loaded(), image=HINT, strength=0.0) is PROMPT
    found = apply_advanced(positive=PROMPT, negative=PROMPT, control_net=loaded(), image=HINT, strength=0.0)
    assert found.positive is PROMPT and found.negative is PROMPT


def test_a_steered_prompt_survives_the_disk() -> None:
    steered = apply(conditioning=PROMPT, control_net=loaded(), image=HINT)
    structure, tensors = codec.encode(steered)
    ((use,),) = uses(codec.decode(structure, tensors, {"nodes"}))
    assert use.equals(uses(steered)[0][0]) and not use.equals(replace(use, strength=0.5))


def test_the_name_of_a_net_for_shuffling_is_part_of_its_key() -> None:
    spec: NodeSpec = getattr(load_controlnet, NODE_ATTRIBUTE)
    assert spec.fingerprint is not None
    names = ("net.safetensors", "net_shuffle.safetensors")
    plain, pooled = (spec.fingerprint(control_net_name=FileRef(name, str(NET), "digest")) for name in names)
    assert plain != pooled
    assert [loaded(name=name).net.is_pooled for name in names] == [False, True]


def test_a_union_net_is_told_its_kind_and_refuses_one_it_does_not_know() -> None:
    plain = loaded()
    assert isinstance(plain.net.config, ControlNetConfig)
    union = replace(plain, net=replace(plain.net, config=replace(plain.net.config, union=UnionConfig(types=6))))
    assert set_union_type(control_net=union, type="depth").union_type == 1
    assert set_union_type(control_net=replace(union, union_type=1), type="auto").union_type is None
    assert set_union_type(control_net=plain, type="repaint").union_type == 7  # others ignore it
    with pytest.raises(ValueError, match=r"type 'tile' is not among the 6 kinds .* load a ProMax one"):
        set_union_type(control_net=union, type="tile")


def test_a_file_of_differences_is_loaded_with_its_model(tmp_path: Path) -> None:
    path = tmp_path / "diff.safetensors"
    save_file({**load_file(NET), "difference": torch.zeros(1)}, path)
    file = FileRef(path.name, str(path), "digest")
    spec: NodeSpec = getattr(load_controlnet, NODE_ATTRIBUTE)
    assert spec.check is not None
    (told,) = spec.check(control_net_name=file)
    assert "load it with DiffControlNetLoader" in str(told)
    with pytest.raises(ValueError, match="load it with DiffControlNetLoader"):
        load_controlnet(control_net_name=file)
    assert load_diff_controlnet(model=ModelValue(DENOISER), control_net_name=file).net.unet == DENOISER
    whole = FileRef(NET.name, str(NET), "digest")
    assert load_diff_controlnet(model=ModelValue(DENOISER), control_net_name=whole).net.unet is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def session(home: Path) -> Iterator[Session]:
    with Session(Settings(home=home, device="cpu", dtype="fp32", cache_dir=None)) as session:
        yield session


def picture(session: Session, graph: dict[str, Any]) -> Tensor:
    document = {"nodegraph": 1, "nodes": graph, "outputs": {"image": "9.IMAGE"}}
    prepared = session.prepare(Workflow.of(document), wants_outputs=True)
    return session.submit(prepared, wants_values=True).result()["image"].movedim(-1, 1) * 2 - 1


def graph(net: str | None, text: str, hint: str) -> dict[str, Any]:
    """Text to image, perhaps steered by a file among the inputs."""
    found: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "starter.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": text}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "5": {"class_type": "LoadImage", "inputs": {"image": hint}},
        "8": {"class_type": "KSampler", "inputs": {
            "model": ["1", 0], "seed": 1, "steps": 8, "cfg": 5.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
            "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0],
        }},
        "9": {"class_type": "VAEDecode", "inputs": {"samples": ["8", 0], "vae": ["1", 2]}},
    }  # fmt: skip
    if net is not None:
        found["6"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": net}}
        applied = {"positive": ["2", 0], "negative": ["3", 0], "control_net": ["6", 0], "image": ["5", 0]}
        found["7"] = {"class_type": "ControlNetApplyAdvanced", "inputs": applied}
        found["8"]["inputs"] |= {"positive": ["7", 0], "negative": ["7", 1]}
    return found


@pytest.mark.parametrize("net", [NET.name, ADAPTER.name])
def test_the_outlines_of_a_picture_are_where_its_hint_has_them(net: str, home: Path, session: Session) -> None:
    rng = random.Random("controlled")
    apart: list[tuple[float, float]] = []
    for number in range(2):
        scene = random_scene(rng, two=0.4)
        hint = controlnet.hints(vae.pixels(render(scene)[None]))  # [1, 3, 128, 128]
        path = home / "input" / f"hint{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((hint[0].movedim(0, -1) * 255).byte().numpy()).save(path)
        text = captions.plain(controlnet.unplaced(scene))
        steered, free = (picture(session, graph(name, text, path.name)) for name in (net, None))
        apart.append((controlnet.iou(steered, hint), controlnet.iou(free, hint)))
    assert all(steered > 0.6 for steered, _ in apart) and sum(free for _, free in apart) / 2 < 0.45, apart


def planned(session: Session, document: dict[str, Any]) -> None:
    session.prepare(Workflow.of({"nodegraph": 1, "nodes": document, "outputs": {"image": "9.IMAGE"}}))


def test_a_lora_in_place_of_a_net_is_told_at_planning(home: Path, session: Session) -> None:
    (home / "input").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(home / "input" / "grey.png")
    folder = home / "models" / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "not-a-net.safetensors").write_bytes(LORA.read_bytes())
    with pytest.raises(WorkflowError, match=r"not-a-net.safetensors: is a LoRA, not a ControlNet"):
        planned(session, graph("not-a-net.safetensors", "", "grey.png"))


def test_a_net_of_another_family_is_told_at_planning(home: Path, session: Session) -> None:
    (home / "input").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(home / "input" / "grey.png")
    folder = home / "models" / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TINY.name).write_bytes(TINY.read_bytes())
    with pytest.raises(WorkflowError, match=r"control_net is of SD1 with prompts of 32 features \(from node 6\)"):
        planned(session, graph(TINY.name, "", "grey.png"))
