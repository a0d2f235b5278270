"""The same workflows give the same tensors as in ComfyUI 0.3.64: whole graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.parity.kinds import assert_parity, cases_of

HERE = Path(__file__).parent
FOLDER = HERE / "graphs"
SDXL = HERE / "weights" / "tiny-sdxl.safetensors"  # 15 MB: made by the parity folder's own script where it is wanted


@pytest.mark.parametrize("case", cases_of(FOLDER), ids=lambda case: case["id"])
def test_a_graph_gives_what_comfyui_computed(case, session):
    if "sdxl" in json.dumps(case["graph"]) and not SDXL.exists():
        pytest.skip("tiny-sdxl.safetensors is not in this checkout")
    assert_parity(case, FOLDER, session, 1e-4)
