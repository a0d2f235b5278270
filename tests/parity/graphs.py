"""Runs the graph cases of a parity folder through the real session and compares what ComfyUI computed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import NodeSpec, spec_of
from nodegraph.types import Port
from nodegraph.workflow import Workflow
from nodes.types import Cond, LatentValue

Errors = dict[str, tuple[float, float]]


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
    """A value as named tensors, as the manifest names them."""
    if isinstance(value, LatentValue):
        yield name, value.samples
        if value.noise_mask is not None:
            yield f"{name}.noise_mask", value.noise_mask
    elif isinstance(value, tuple):
        for index, cond in enumerate(value):
            yield f"{name}.{index}", cond.tokens
            if cond.pooled is not None:
                yield f"{name}.{index}.pooled_output", cond.pooled
    else:
        yield name, value


def make_home(home: Path, folder: Path, *weights: Path) -> None:
    """A data folder with the weights as checkpoints and the case pictures as inputs."""
    (home / "models" / "checkpoints").mkdir(parents=True)
    for path in weights:
        (home / "models" / "checkpoints" / path.name).symlink_to(path.resolve())
    if (folder / "images").is_dir():
        shutil.copytree(folder / "images", home / "input")


def run_case(case: Mapping[str, Any], folder: Path, session: Session) -> Errors:
    """Runs a case -> by tensor (relative L2 error, largest absolute difference)."""
    document = {
        "nodegraph": 1,
        "nodes": case["graph"],
        "outputs": {k: f"{n}.{s}" for k, (n, s) in case["outputs"].items()},
    }
    prepared = session.prepare(Workflow.of(document), wants_outputs=True)
    result = session.submit(prepared, wants_values=True).result()
    found = {key: tensor for name in result for key, tensor in flatten(name, result[name])}
    errors: Errors = {}
    for name, place in case["tensors"].items():
        wanted = load_file(folder / place["file"])[place["key"]].double()
        got = found[name].double()
        assert got.shape == wanted.shape, f"{name}: {list(got.shape)}, expected {list(wanted.shape)}"
        difference = (got - wanted).abs()
        norm = float(wanted.norm())
        errors[name] = (float(difference.norm()) / norm if norm else float(difference.norm()), float(difference.max()))
    return errors


def open_session(home: Path, folder: Path) -> Session:
    """A session on the CPU in fp32 with the fixture nodes."""
    torch.set_num_threads(1)
    registry = Registry().with_entry_points().with_specs(fixture_nodes(load_file(folder / "inputs.safetensors")))
    return Session(Settings(home=home, device="cpu", dtype="fp32", cache_dir=None), registry=registry)
