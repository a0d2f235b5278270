"""Prompt nodes, lent modules by a stand-in for the context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from nodegraph.context import Context
from nodegraph.spec import NODE_ATTRIBUTE
from nodegraph.types import FileRef
from nodes.loaders import load_checkpoint
from nodes.text import encode_text, set_last_layer
from nodes.types import ClipValue

TINY = Path(__file__).parents[1] / "parity" / "weights" / "tiny-sd15.safetensors"


class Lender:
    """The part of a context that these nodes use."""

    @contextmanager
    def use(self, part: Any) -> Iterator[Any]:
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


def test_what_a_prompt_may_not_say_is_told_at_planning() -> None:
    check = getattr(encode_text, NODE_ATTRIBUTE).check
    assert check(text="a (cat:1.2)") == []
    (problem,) = check(text="a embedding:badhands cat")
    assert "embedding:badhands" in problem and "not supported yet" in problem
