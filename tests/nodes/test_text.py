"""Prompt nodes: alone, lent modules by a stand-in for the context, and in a session with embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.context import Context
from nodegraph.errors import Kind, Problem, WorkflowError
from nodegraph.events import Noted, RunFinished
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import NODE_ATTRIBUTE, spec_of
from nodegraph.types import FileRef
from nodegraph.workflow import Workflow
from nodes.diffusion.text import encode_prompt
from nodes.loaders import load_checkpoint
from nodes.text import encode_text, encode_text_a1111, encode_text_refiner, encode_text_sdxl, set_last_layer
from nodes.types import ClipValue
from tests.nodes.diffusion.test_text import Encoders

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"


class Lender:
    """The part of a context that these nodes use."""

    files = None

    def __init__(self, use: Callable[..., Any] | None = None) -> None:
        self.use = use or self.load

    @staticmethod
    @contextmanager
    def load(part: Any) -> Iterator[Any]:
        yield part.load("cpu", torch.float32)


def clip() -> ClipValue:
    return load_checkpoint(ckpt_name=FileRef(TINY.name, str(TINY), "digest")).CLIP


def test_a_prompt_becomes_one_conditioning() -> None:
    (cond,) = encode_text(ctx=cast(Context, Lender()), text="a cat", clip=clip())
    assert cond.tokens.shape == (1, 77, 32) and cond.pooled is not None and cond.pooled.shape == (1, 32)
    assert cond.options == {}


def test_clip_skip_changes_the_layer_and_not_the_value_it_came_from() -> None:
    whole = clip()
    skipped = set_last_layer(clip=whole, stop_at_clip_layer=-2)
    assert (whole.layer, skipped.layer) == (None, -2)
    first, second = (
        encode_text(ctx=cast(Context, Lender()), text="a cat", clip=value)[0] for value in (whole, skipped)
    )
    assert not torch.equal(first.tokens, second.tokens)
    assert first.pooled is not None and second.pooled is not None and torch.equal(first.pooled, second.pooled)


def test_what_a_prompt_may_not_say_is_told_at_planning(session: Session) -> None:
    assert problems(session, encode(text="a (cat:1.2)")) == []
    assert "nests parentheses" in problems(session, encode(text="(" * 500 + ")" * 500))[0].what
    (problem,) = problems(session, encode(text="a embedding:tiny-embeding cat"))
    assert problem.kind is Kind.MISSING_MODEL and "did you mean 'tiny-embedding'?" in problem.what
    (both,) = problems(session, encode("CLIPTextEncodeSDXL", text_g="embedding:gone", text_l="embedding:gone"))
    assert "'gone', which is not among the embeddings" in both.what
    assert "wire a LoraLoader" in problems(session, encode("CLIPTextEncodeA1111", text="<lora:x:1>"))[0].what
    assert len(problems(session, encode("CLIPTextEncodeA1111", text="[embedding:a:embedding:b:5]"))) == 2


def test_a_tag_of_a1111s_is_no_error_and_a_note(session: Session) -> None:
    events = list(submit(session, encode(text="a <lora:ink:0.8> cat <hypernet:old:1>")))
    read, rest = "tags are read as words here: the prompt loads", "instead, and take the tag out of the prompt"
    assert [event.text for event in events if isinstance(event, Noted)] == [
        f"{read} 'ink' with '<lora:ink:0.8>'; wire a LoraLoader node {rest}",
        f"{read} 'old' with '<hypernet:old:1>'; wire a HypernetworkLoader node {rest}",
    ]
    assert isinstance(events[-1], RunFinished) and events[-1].status == "success"


def test_a_prompt_runs_again_when_its_embedding_changes(session: Session, embedding: Path) -> None:
    for class_type in ("CLIPTextEncode", "CLIPTextEncodeA1111"):
        named, other = (encode(class_type, text=text) for text in ("embedding:tiny-embedding cat", "a cat"))
        first, ran = run(session, named)
        assert "p" in ran and run(session, named)[1] == []
        run(session, other)
        save_file({"emb_params": torch.full((2, 32), len(class_type) / 100)}, embedding)
        second, ran = run(session, named)
        assert ran == ["p"] and not torch.equal(first.tokens, second.tokens)
        assert run(session, other)[1] == []


def test_a_linked_prompt_finds_its_embedding_when_it_runs(session: Session, embedding: Path) -> None:
    linked = encode(text=("t", 0)) | {"t": node("Said", text="embedding:tiny-embedding cat")}
    first, _ = run(session, linked)
    assert torch.equal(first.tokens, run(session, encode(text="embedding:tiny-embedding cat"))[0].tokens)
    assert run(session, linked)[1] == []
    save_file({"emb_params": torch.ones(2, 32)}, embedding)
    second, ran = run(session, linked)
    assert ran == ["p"] and not torch.equal(first.tokens, second.tokens)
    running = submit(session, linked | {"t": node("Said", text="embedding:gone")})
    assert running.wait().status == "error"
    assert "'gone', which is not among the embeddings" in running.errors["p"].message


def test_an_embedding_of_another_width_names_both_when_it_runs(session: Session, embedding: Path) -> None:
    save_file({"emb_params": torch.ones(2, 1024)}, embedding)
    running = submit(session, encode(text="embedding:tiny-embedding"))
    assert running.wait().status == "error"
    assert "width 1024 (SD2), and this text encoder (clip_l) takes 32" in running.errors["p"].message


def test_a1111s_syntax_becomes_ranges_and_strengths() -> None:
    conds = encode_text_a1111(ctx=cast(Context, Lender()), text="[cat:dog:2] AND (fox:1.2) :0.5", clip=clip(), steps=4)
    assert [cond.options for cond in conds] == [
        {"strength": 1.0, "start_percent": 0.0, "end_percent": 3 / 7},
        {"strength": 1.0, "start_percent": 3 / 7, "end_percent": 1.0},
        {"strength": 0.5},
    ]
    assert all(cond.tokens.shape == (1, 77, 32) for cond in conds)


def test_the_refiners_prompt_carries_its_score_and_size() -> None:
    (cond,) = encode_text_refiner(
        ctx=cast(Context, Lender()), ascore=2.5, width=768, height=512, text="a cat", clip=clip()
    )
    (plain,) = encode_text(ctx=cast(Context, Lender()), text="a cat", clip=clip())
    assert torch.equal(cond.tokens, plain.tokens)
    assert cond.options == {"aesthetic_score": 2.5, "width": 768, "height": 512}


def test_sdxls_prompt_goes_to_its_two_encoders_with_the_sizes() -> None:
    two = Encoders()
    (cond,) = encode_text_sdxl(
        ctx=cast(Context, Lender(two.use)), clip=ClipValue(two.parts), width=1, height=2, crop_w=3, crop_h=4,
        target_width=5, target_height=6, text_g="a cat", text_l="a dog",
    )  # fmt: skip
    wanted = encode_prompt(two.parts, "a cat", two.use, text_l="a dog")
    torch.testing.assert_close((cond.tokens, cond.pooled), (wanted.tokens, wanted.pooled))
    assert cond.options == {
        "width": 1, "height": 2, "crop_w": 3, "crop_h": 4, "target_width": 5, "target_height": 6,
    }  # fmt: skip
    with pytest.raises(ValueError, match="has not the two text encoders of SDXL"):
        encode_text_sdxl(ctx=cast(Context, Lender()), clip=clip(), text_g="", text_l="")


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (encode_text, "text clip"),
        (encode_text_sdxl, "clip width height crop_w crop_h target_width target_height text_g text_l"),
        (encode_text_refiner, "ascore width height text clip"),
        (encode_text_a1111, "text clip steps normalize"),
    ],
)
def test_inputs_are_in_comfyuis_order(function: Any, names: str) -> None:
    assert [item.name for item in getattr(function, NODE_ATTRIBUTE).inputs] == names.split()


def said(*, text: str) -> str:
    return text


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    for kind, file in (("checkpoints", TINY), ("embeddings", TINY.with_name("tiny-embedding.safetensors"))):
        (tmp_path / "models" / kind).mkdir(parents=True)
        shutil.copyfile(file, tmp_path / "models" / kind / file.name)
    registry = Registry().with_entry_points().with_specs([spec_of(said, "Said")])
    with Session(Settings(home=tmp_path, device="cpu", dtype="fp32", cache_dir=None), registry=registry) as session:
        yield session


@pytest.fixture
def embedding(tmp_path: Path) -> Path:
    return tmp_path / "models" / "embeddings" / "tiny-embedding.safetensors"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def encode(class_type: str = "CLIPTextEncode", **prompts: Any) -> dict[str, Any]:
    links = {name: list(value) if isinstance(value, tuple) else value for name, value in prompts.items()}
    return {"c": node("CheckpointLoaderSimple", ckpt_name=TINY.name), "p": node(class_type, clip=["c", 1], **links)}


def submit(session: Session, nodes: dict[str, Any]) -> Any:
    return session.submit(session.prepare(Workflow.of({"nodegraph": 1, "nodes": nodes}), ["p"]), wants_values=True)


def run(session: Session, nodes: dict[str, Any]) -> tuple[Any, list[str]]:
    running = submit(session, nodes)
    assert running.wait().status == "success", running.errors
    return running.value("p")[0], running.ran


def problems(session: Session, nodes: dict[str, Any]) -> list[Problem]:
    try:
        session.prepare(Workflow.of({"nodegraph": 1, "nodes": nodes}), ["p"])
    except WorkflowError as error:
        return list(error.problems)
    return []
