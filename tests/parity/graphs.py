"""Runs the graph cases of a parity folder through the real session and compares what ComfyUI computed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from nodegraph.errors import FileProblem
from nodegraph.files import MODEL_KINDS
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import NodeSpec, spec_of
from nodegraph.types import Port
from nodegraph.workflow import Workflow
from nodes.diffusion.headers import read_header
from nodes.types import Cond, LatentValue

Errors = dict[str, tuple[float, float]]  # by tensor: relative L2 error, largest absolute difference
BY_NAME = {"controlnet": "controlnet", "lora": "loras", "embedding": "embeddings"}
INFINITE = 1e8  # ComfyUI writes 999999999.9 for a sigma above all


def fixture_nodes(inputs: Mapping[str, Tensor]) -> list[NodeSpec]:
    """The nodes of the cases that hand out prepared tensors."""

    def latent(*, key: str) -> Annotated[LatentValue, Port("LATENT")]:
        return LatentValue(inputs[key].float())

    def image(*, key: str) -> Annotated[Tensor, Port("IMAGE")]:
        return inputs[key].float()

    def mask(*, key: str) -> Annotated[Tensor, Port("MASK")]:
        return inputs[key].float()

    def conditioning(*, key: str) -> Annotated[tuple[Cond, ...], Port("CONDITIONING")]:
        return (Cond(inputs[key].float()),)

    named = {"FixtureLatent": latent, "FixtureImage": image, "FixtureMask": mask, "FixtureConditioning": conditioning}
    return [spec_of(_evaluated(function), name) for name, function in named.items()]


def _evaluated(function: Any) -> Any:
    """Annotations of local functions as objects, since their names are local too."""
    scope = {**globals(), "Tensor": Any}
    function.__annotations__ = {name: eval(text, scope) if isinstance(text, str) else text
                                for name, text in function.__annotations__.items()}  # fmt: skip
    return function


def flatten(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """A value as named tensors, as the manifest names them; what holds none gives none."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, LatentValue):
        yield name, value.samples
        if value.noise_mask is not None:
            yield f"{name}.noise_mask", value.noise_mask[:, None]  # ComfyUI's are [B, 1, H, W]
    elif isinstance(value, Cond):
        yield name, value.tokens
        if value.pooled is not None:
            yield f"{name}.pooled_output", value.pooled
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from flatten(f"{name}.{index}", item)


def make_home(home: Path, folder: Path, *weights: Path) -> None:
    """A data folder with the weights in the folders of their kinds and the case pictures as inputs."""
    for path in weights:
        for kind in kinds_of(path):
            place = home / "models" / kind / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path.resolve())
    if (folder / "images").is_dir():
        shutil.copytree(folder / "images", home / "input")


def kinds_of(path: Path) -> tuple[str, ...]:
    """The model folders of a weight file: by what is in it, else by its name; all where neither tells."""
    try:
        tensors = read_header(path).tensors
    except FileProblem:  # old pickles of embeddings are read by the nodes alone
        tensors = {}
    if any(name.startswith("model.diffusion_model.") for name in tensors):
        return "checkpoints", "diffusion_models"
    return next(((kind,) for word, kind in BY_NAME.items() if word in path.stem), tuple(MODEL_KINDS))


def run_case(case: Mapping[str, Any], folder: Path, session: Session) -> Errors:
    """Runs a graph case and compares its outputs."""
    document = {
        "nodegraph": 1,
        "nodes": case["graph"],
        "outputs": {k: f"{n}.{s}" for k, (n, s) in case["outputs"].items()},
    }
    prepared = session.prepare(Workflow.of(document), wants_outputs=True)
    result = session.submit(prepared, wants_values=True).result()
    return compare({key: tensor for name in result for key, tensor in flatten(name, result[name])}, case, folder)


def compare(found: Mapping[str, Tensor], case: Mapping[str, Any], folder: Path) -> Errors:
    """The errors of what was found for a case."""
    errors: Errors = {}
    for name, place in case["tensors"].items():
        assert name in found, f"{name} is missing; there are {', '.join(found) or 'none'}"
        with safe_open(folder / place["file"], "pt") as file:
            wanted = file.get_tensor(place["key"])
        got = found[name]
        assert got.shape == wanted.shape, f"{name}: {list(got.shape)}, expected {list(wanted.shape)}"
        errors[name] = difference(got.double(), wanted.double())
    return errors


def difference(got: Tensor, wanted: Tensor) -> tuple[float, float]:
    """(relative L2 error, largest absolute difference); what is infinite or no number has to be so in both."""
    is_plain = wanted.abs() < INFINITE
    if not torch.allclose(got[~is_plain], wanted[~is_plain], rtol=1e-6, equal_nan=True):
        return math.inf, math.inf
    wanted, apart = wanted[is_plain], got[is_plain] - wanted[is_plain]
    if not len(apart):
        return 0.0, 0.0
    norm = float(wanted.norm())
    found = float(apart.norm()) / (norm or 1.0), float(apart.abs().max())
    return found if math.isfinite(found[0]) else (math.inf, math.inf)


def open_session(home: Path, folder: Path) -> Session:
    """A session on the CPU in fp32 with the fixture nodes."""
    torch.set_num_threads(1)
    inputs = folder / "inputs.safetensors"
    fixtures = fixture_nodes(load_file(inputs) if inputs.exists() else {})
    registry = Registry().with_entry_points().with_specs(fixtures)
    return Session(Settings(home=home, device="cpu", dtype="fp32", cache_dir=None), registry=registry)
