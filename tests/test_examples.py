"""The examples run from a fresh home, and what people hang on a checkpoint does in them what it is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nodegraph.events import Saved
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from training import styles
from training.embedding import COLOUR
from training.scenes import Scene, Thing, render, silhouette

EXAMPLES = sorted((Path(__file__).parent.parent / "workflows").glob("*.json"))
CONE = Thing("cone", "blue", "small", "right", glossy=False, x=0.42, base=0.6, radius=0.36, turn=0.0)
PROMPT = "a large pink heart on a teal background"
SCENE = Scene("white", (CONE,), horizon=0.3, light=0.0)


def open_session(home: Path, **inputs: float) -> Session:
    """A session with pictures of a scene, in whose library the examples sample with some inputs of their own."""
    (home / "workflows").mkdir()
    for path in EXAMPLES:
        document = json.loads(path.read_text("utf-8"))
        for node in document.get("nodes", document).values():
            if "steps" in node["inputs"]:
                node["inputs"] |= inputs
        (home / "workflows" / path.name).write_text(json.dumps(document))
    (home / "input").mkdir()
    large = Image.fromarray(render(SCENE, 512))
    large.reduce(4).save(home / "input" / "picture.png")
    large.reduce(8).save(home / "input" / "small.png")
    return Session(Settings(home=home, device="cpu", cache_dir=None, model_roots=(home / "output",)))


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session whose examples take a single step."""
    with open_session(tmp_path_factory.mktemp("hasty"), steps=1) as made:
        yield made


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session whose examples show something after few steps, which want less guidance."""
    with open_session(tmp_path_factory.mktemp("few"), steps=8, cfg=4.0) as made:
        yield made


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES if path.stem != "draw"])  # which is a part of gallery
def test_an_example_runs_from_a_fresh_home_and_saves_what_it_makes(hasty: Session, name: str) -> None:
    wanted: dict[str, Any] = {"image": "small.png"} if "image" in hasty.open(name).workflow.inputs else {}
    files = saved(hasty, name, **wanted)
    assert files and all(file.stat().st_size > 0 for file in files)


def saved(session: Session, name: str, targets: list[str] | None = None, **inputs: Any) -> list[Path]:
    """The files that an example saves, or some nodes of it."""
    running = session.submit(session.prepare(session.open(name).workflow.with_inputs(inputs), targets))
    files = [Path(event.file.path) for event in running if isinstance(event, Saved)]
    assert running.wait().status == "success", running.errors
    return files


def drawn(
    session: Session, name: str, output: str = "8.IMAGE", nodes: dict[str, Any] | None = None, **inputs: Any
) -> Tensor:
    """An output of an example, by default the picture before it is enlarged: [1, 3, H, W]; `nodes` replace its own."""
    document = json.loads(session.open(name).workflow.with_inputs(inputs).dumps())
    document["nodes"] |= nodes or {}
    workflow = Workflow.of({**document, "outputs": {"wanted": output}})
    running = session.submit(session.prepare(workflow, wants_outputs=True), wants_values=True)
    return running.result()["wanted"].movedim(-1, 1)


@pytest.mark.parametrize(("style", "measure"), [("outlined", styles.darkness), ("striped", styles.stripes)])
def test_the_style_of_a_lora_is_measurable_at_1_and_gone_at_0(
    session: Session, style: str, measure: Callable[[Tensor], Tensor]
) -> None:
    lora = f"starter-{style}.safetensors"
    plain = drawn(session, "text_to_image", prompt=PROMPT)
    none, half, whole = (drawn(session, "lora", prompt=PROMPT, lora=lora, strength=at) for at in (0.0, 0.5, 1.0))
    assert torch.equal(none, plain)
    assert measure(none) < measure(half) < measure(whole)
    assert measure(whole) > 2 * measure(none) and measure(whole) > 0.025


def test_two_loras_of_a_stack_both_show(session: Session) -> None:
    plain = drawn(session, "text_to_image", prompt=PROMPT)
    both = drawn(session, "lora_stack", prompt=PROMPT, first_strength=1.0, second_strength=1.0)
    assert styles.darkness(both) > styles.darkness(plain) + 0.01
    assert styles.stripes(both) > styles.stripes(plain) + 0.005


def test_two_models_are_mixed_from_one_to_the_other(session: Session) -> None:
    first, second = (drawn(session, "lora", prompt=PROMPT, lora=f"starter-{style}.safetensors")
                     for style in ("outlined", "striped"))  # fmt: skip
    at_0, half, at_1 = (drawn(session, "merge", prompt=PROMPT, ratio=ratio) for ratio in (0.0, 0.5, 1.0))
    assert torch.equal(at_1, first) and torch.equal(at_0, second)
    apart = (first - second).abs().mean()
    assert (half - first).abs().mean() < apart and (half - second).abs().mean() < apart


def test_an_extracted_lora_does_what_the_first_one_did(session: Session) -> None:
    (file,) = saved(session, "extract_lora", ["14"])
    given, plain = drawn(session, "lora", prompt=PROMPT), drawn(session, "lora", prompt=PROMPT, strength=0.0)
    again = drawn(session, "lora", prompt=PROMPT, lora=file.name)
    torch.testing.assert_close(again, given, rtol=0, atol=0.01)
    assert (given - plain).abs().mean() > 0.02


def test_an_embedding_is_nearer_to_its_colour_than_words_are(session: Session) -> None:
    lime = F.normalize(torch.tensor([COLOUR]))

    def distance(word: str) -> float:
        picture = drawn(session, "embedding", prompt=f"a large {word} sphere on a white background")
        return float((F.normalize(styles.middle(picture)) - lime).norm())

    assert distance("embedding:starter-lime") < 0.9 * min(distance("yellow"), distance("green"))


def test_a_hypernetwork_takes_roundness_away(session: Session) -> None:
    prompt = "a large orange sphere on a teal background"
    plain = drawn(session, "text_to_image", prompt=prompt)
    none, whole = (drawn(session, "hypernetwork", prompt=prompt, strength=at) for at in (0.0, 1.0))
    assert torch.equal(none, plain)
    before, after = (styles.roundness(picture[..., 32:96, 32:96]) for picture in (none, whole))
    assert after < 0.7 * before


@pytest.mark.parametrize("name", ["controlnet", "t2i_adapter"])
def test_edges_are_where_an_outline_is_and_what_is_drawn_along_them_has_its_outline_there(
    session: Session, name: str
) -> None:
    own = json.loads(session.open(name).workflow.dumps())["nodes"]["15"]
    nodes = {"14": {"class_type": "LoadImage", "inputs": {"image": "picture.png"}},  # in place of the first picture
             "found": {**own, "inputs": {**own["inputs"], "image": ["8", "IMAGE"]}}}  # fmt: skip
    prompt = "a red cone on a white background"
    edges = drawn(session, name, "15.IMAGE", nodes)[:, :1]
    plain, guided = (drawn(session, name, "found.IMAGE", nodes, prompt=prompt, strength=at)[:, :1] for at in (0.0, 1.0))
    covered = torch.from_numpy(silhouette(CONE))[None, None].float()
    outline = F.max_pool2d(covered, 3, 1, 1) - covered
    assert share(edges, outline) > 0.95 and share(outline, edges) > 0.8
    assert share(outline, plain) < 0.3 and share(outline, guided) > 0.75


def share(lines: Tensor, others: Tensor, reach: int = 2) -> float:
    """How much of some lines [1, 1, H, W] is no further from others than `reach` pixels."""
    near = F.max_pool2d(others, 2 * reach + 1, 1, reach)
    return float((lines * near).sum() / lines.sum())


def test_an_upscaler_keeps_what_a_picture_shows_and_is_sharper_than_bicubic(session: Session) -> None:
    large = torch.from_numpy(render(SCENE, 512)).movedim(-1, 0)[None] / 255
    small = F.avg_pool2d(large, 4)
    ours = drawn(session, "upscale", "13.IMAGE", image="picture.png")
    bicubic = F.interpolate(small, scale_factor=4, mode="bicubic")
    torch.testing.assert_close(F.avg_pool2d(ours, 4), small, rtol=0, atol=0.06)
    assert (ours - large).square().mean() < 0.2 * (bicubic - large).square().mean()
    steepest = [float(picture.diff(dim=-1).abs().max()) for picture in (ours, bicubic, large)]
    assert steepest[0] > 0.8 * steepest[2] > 2 * steepest[1]
