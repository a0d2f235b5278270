"""Prompts mean what they mean in ComfyUI 0.3.64: tokens, weights, encodings."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodegraph.errors import NodegraphError
from tests.parity.kinds import assert_parity, cases_of

FOLDER = Path(__file__).parent / "prompts"
UNKNOWN = "embedding:missing"  # ComfyUI leaves such a word out; here it is an error
CASES = cases_of(FOLDER)


@pytest.mark.parametrize("case", [case for case in CASES if UNKNOWN not in case["text"]], ids=lambda case: case["id"])
def test_a_prompt_means_what_it_means_in_comfyui(case, session):
    assert_parity(case, FOLDER, session, 1e-5)


@pytest.mark.parametrize("case", [case for case in CASES if UNKNOWN in case["text"]], ids=lambda case: case["id"])
def test_an_unknown_embedding_is_an_error(case, session):
    with pytest.raises(NodegraphError, match="'missing', which is not among the embeddings"):
        assert_parity(case, FOLDER, session, 1e-5)
