"""Runs a case of any kind of a parity folder: graphs as they are, prompts and KSampler runs as small graphs of their
own, and sigmas, noise and single calls of the UNet by the functions behind the nodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nodegraph.files import WEIGHTS
from nodegraph.session import Session
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part, read_checkpoint
from nodes.diffusion.denoiser import Told, UNetDenoiser
from nodes.diffusion.noise import initial_noise
from nodes.diffusion.parametrisation import Parametrisation, discrete, trained
from nodes.diffusion.schedules import SCHEDULERS, sampling_sigmas, sigmas_for
from nodes.diffusion.text import finder, tokenize
from tests.parity.graphs import Errors, compare, run_case

Case = Mapping[str, Any]


def cases_of(folder: Path) -> list[dict[str, Any]]:
    """The cases of a folder."""
    return json.loads((folder / "manifest.json").read_text("utf-8"))["cases"]


def assert_parity(case: Case, folder: Path, session: Session, bound: float) -> None:
    """Runs a case; every relative error has to be within the bound."""
    for name, (relative, largest) in run(case, folder, session).items():
        assert relative <= bound, f"{name}: relative error {relative:.1e}, largest difference {largest:.1e}"


class SkippedCase(Exception):
    """A case that cannot be run here; says why."""


def run(case: Case, folder: Path, session: Session) -> Errors:
    """Runs a case and compares.

    Raises:
        SkippedCase: it needs a node type or a file that is not here, or is of a kind not known.
    """
    kind = case["kind"]
    if kind in ("graph", "ksampler", "prompt"):
        if kind != "graph":
            model = checkpoint(case, folder, session)
            graph, last = ksampler_graph(case, model) if kind == "ksampler" else prompt_graph(case, model)
            case = {**case, "graph": graph, "outputs": {name.split(".")[0]: (last, 0) for name in case["tensors"]}}
        if reason := lacking(case["graph"], session):
            raise SkippedCase(reason)
        if "token_ids" in case:
            check_tokens(case, folder, session)
        return run_case(case, folder, session)
    if kind == "apply_model":
        return compare(apply_model(case, folder, session), case, folder)
    if kind == "noise":
        return compare({"noise": initial_noise(case["shape"], int(case["seed"]))}, case, folder)
    if kind in ("table", "schedule", "ksampler_schedule"):
        return compare(sigmas(case, parametrisation(case, folder, session)), case, folder)
    raise SkippedCase(f"kind {kind!r} is not known")


def lacking(graph: Mapping[str, Any], session: Session) -> str:
    """The node types, or else the first weights, that a graph needs and that are not here; empty when all are."""
    types = sorted({node["class_type"] for node in graph.values() if session.spec(node["class_type"]) is None})
    if types:
        return f"{', '.join(types)} not installed"
    for node in graph.values():
        spec = session.spec(node["class_type"])
        for item in spec.inputs if spec else ():
            name = node["inputs"].get(item.name)
            is_weights = item.file and isinstance(name, str) and Path(name).suffix in WEIGHTS
            if item.file and is_weights and name not in session.folders.names(item.file.kind):
                return f"{name} is not among the {item.file.kind}"
    return ""


def checkpoint(case: Case, folder: Path, session: Session) -> str:
    """The checkpoint of a case; of one that names no model the first model that another case names."""
    model = case.get("model") or next((other["model"] for other in cases_of(folder) if "model" in other), "")
    names = session.folders.names("checkpoints")
    first = names[0] if names and "model" not in case else f"{model}.safetensors"
    return next((name for name in names if Path(name).stem == model), first)


def ksampler_graph(case: Case, model: str) -> tuple[dict[str, Any], str]:
    """A KSampler between fixtures, and its id."""
    params = {"sampler_name" if name == "sampler" else name: value for name, value in case["params"].items()}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model}},
        "2": {"class_type": "FixtureConditioning", "inputs": {"key": case["positive"]}},
        "3": {"class_type": "FixtureConditioning", "inputs": {"key": case["negative"]}},
        "4": {"class_type": "FixtureLatent", "inputs": {"key": case["latent"]}},
        "5": {"class_type": "KSampler", "inputs": params | links},
    }, "5"


def prompt_graph(case: Case, model: str) -> tuple[dict[str, Any], str]:
    """A prompt with its encoder, and its id."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": case["text"]}},
    }, "2"


def check_tokens(case: Case, folder: Path, session: Session) -> None:
    """Raises AssertionError when a prompt is cut into other tokens or weights; of two encoders each may be listed."""
    path = session.folders.path("checkpoints", checkpoint(case, folder, session))
    is_by_role = isinstance(case["token_ids"], dict)
    for role in case["token_ids"] if is_by_role else [""]:
        part = next(part for part in read_checkpoint(path, "").clip if part.role.endswith(role))
        chunks = tokenize(case["text"], part.config.pad_token, finder(session.folders, part))
        ids = [["embedding" if isinstance(token, Tensor) else token for token, _ in chunk] for chunk in chunks]
        weights = [[weight for _, weight in chunk] for chunk in chunks]
        for name, found in (("token_ids", ids), ("token_weights", weights)):
            wanted = case[name][role] if is_by_role else case[name]
            assert len(found) == len(wanted), f"{len(found)} chunks of tokens, expected {len(wanted)}"
            rows = zip(found, wanted, strict=True)
            apart = [pair for ours, theirs in rows for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]]
            assert not apart, f"{name} {role} at {len(apart)} places, the first (found, expected) {apart[0]}"


def sigmas(case: Case, known: Parametrisation) -> dict[str, Tensor]:
    """The sigmas of a table or a schedule."""
    if case["kind"] == "schedule":
        try:
            return {"sigmas": sigmas_for(case["scheduler"], case["steps"], known.table)}
        except ValueError:  # what is not finite is refused; the scheduler itself gives it, as ComfyUI's does
            return {"sigmas": SCHEDULERS[case["scheduler"]](case["steps"], known.table.float())}
    if case["kind"] == "ksampler_schedule":
        given = (case["sampler"], case["scheduler"], case["steps"], case["denoise"])
        return {"sigmas": sampling_sigmas(*given, known.table)}
    if "percents" in case:
        found = [known.sigma_at(percent) for percent in case["percents"]]
        return {"sigmas": torch.tensor(found, dtype=torch.float64)}
    if not set(case["tensors"]) <= {"sigmas", "log_sigmas"}:
        raise SkippedCase(f"a table of {', '.join(case['tensors'])} is not known")
    return {"sigmas": known.table, "log_sigmas": known.table.log()}


def parametrisation(case: Case, folder: Path, session: Session) -> Parametrisation:
    """How the model of a case was trained; Stable Diffusion 1 where no checkpoint is here."""
    if not session.folders.names("checkpoints"):
        return discrete("eps", False)
    return trained(unet_part(case, folder, session).config)


def unet_part(case: Case, folder: Path, session: Session) -> Part[UNetConfig]:
    """The UNet of a case."""
    part = read_checkpoint(session.folders.path("checkpoints", checkpoint(case, folder, session)), "").unet
    assert part is not None
    return part


@cache
def network(part: Part[UNetConfig]) -> nn.Module:
    """A UNet with its weights."""
    return part.load("cpu", torch.float32)


def apply_model(case: Case, folder: Path, session: Session) -> dict[str, Tensor]:
    """What a UNet makes of an input at a sigma; `x` of the case is a fixture's key, or `key*(1+sigma)`."""
    inputs = load_file(folder / "inputs.safetensors")
    written = re.fullmatch(r"(\w+)(\*\(1\+sigma\))?", case["x"].replace(" ", ""))
    if written is None:
        raise SkippedCase(f"x is {case['x']!r}, which is not known")
    part, sigma = unet_part(case, folder, session), torch.tensor(case["sigma"])
    x = inputs[written[1]] * (1 + sigma if written[2] else 1)
    context = torch.cat([inputs[key] for key in case["context"]])
    y = inputs[case["y"]] if "y" in case else None
    with torch.no_grad():
        x0 = UNetDenoiser(network(part), trained(part.config))(x, sigma, Told(context, y))
    return {"denoised": x0, "eps": (x - x0) / sigma}
