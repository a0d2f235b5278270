"""The same workflows give the same tensors as ComfyUI: committed cases of whole graphs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.parity.graphs import make_home, open_session, run_case

HERE = Path(__file__).parent
FOLDER = HERE / "graphs"
CASES = json.loads((FOLDER / "manifest.json").read_text())["cases"]
SDXL = HERE / "weights" / "tiny-sdxl.safetensors"  # 15 MB: made by the parity folder's own script where it is wanted


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    home = tmp_path_factory.mktemp("home") / "data"
    make_home(home, FOLDER, HERE / "weights" / "tiny-sd15.safetensors", *([SDXL] if SDXL.exists() else []))
    with open_session(home, FOLDER) as session:
        yield session


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_graph_gives_what_comfyui_computed(case, session):
    if "sdxl" in json.dumps(case["graph"]) and not SDXL.exists():
        pytest.skip("tiny-sdxl.safetensors is not in this checkout")
    for name, (relative, _) in run_case(case, FOLDER, session).items():
        assert relative <= 1e-5, f"{name}: relative error {relative:.1e}"
