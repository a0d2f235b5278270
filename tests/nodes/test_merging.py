"""Merging nodes: what they keep of which model, and what is refused before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodegraph.errors import WorkflowError
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import NODE_ATTRIBUTE
from nodegraph.workflow import Workflow
from nodes import merging
from nodes.diffusion.checkpoints import read_checkpoint
from nodes.diffusion.merging import Blend, Share
from nodes.types import ClipValue, ModelValue

STARTER = Path(__file__).parents[2] / "nodes" / "models" / "checkpoints" / "starter.safetensors"


def starter(digest: str, layer: int | None = None) -> tuple[ModelValue, ClipValue]:
    found = read_checkpoint(STARTER, digest)
    assert found.unet is not None
    return ModelValue(found.unet, (f"patch of {digest}",)), ClipValue(found.clip, layer)


def context() -> Any:
    told: list[str] = []
    return SimpleNamespace(note=told.append, told=told)


@pytest.mark.parametrize(
    ("merge", "inputs", "shares"),
    [
        (merging.merge_models, {"ratio": 0.25}, (Share("", 0.25, 0.75),)),
        (merging.add_models, {}, (Share("", 1.0, 1.0),)),
        (merging.subtract_models, {"multiplier": 2.0}, (Share("", 2.0, -2.0),)),
        (
            merging.merge_blocks, {"input": 0.25, "middle": 0.5},
            (Share("input", 0.25, 0.75), Share("middle", 0.5, 0.5), Share("out", 1.0, 0.0)),
        ),
        (
            merging.merge_sd1, {"time_embed.": 0.5, "output_blocks.11.": 0.25},
            (Share("time_embed.", 0.5, 0.5), Share("output_blocks.11.", 0.25, 0.75)),
        ),
    ],
)  # fmt: skip
def test_a_model_keeps_its_patches_and_takes_of_the_other_by_share(merge: Any, inputs: Any, shares: Any) -> None:
    (one, _), (two, _) = starter("one"), starter("two")
    merged = merge(ctx=context(), model1=one, model2=two, **inputs)
    assert merged == replace(one, unet=replace(one.unet, overlays=(Blend(two.unet, shares),)))


@pytest.mark.parametrize(
    ("merge", "inputs", "share"),
    [
        (merging.merge_clips, {"ratio": 0.25}, Share("", 0.25, 0.75)),
        (merging.add_clips, {}, Share("", 1.0, 1.0)),
        (merging.subtract_clips, {"multiplier": 2.0}, Share("", 2.0, -2.0)),
    ],
)
def test_text_encoders_are_merged_by_role(merge: Any, inputs: Any, share: Share) -> None:
    (_, one), (_, two) = starter("one", layer=-2), starter("two")
    merged = merge(ctx=context(), clip1=one, clip2=two, **inputs)
    assert merged.layer == -2 and merged.encoders[0].overlays == (Blend(two.encoders[0], (share,)),)
    text = "text_model.encoder.layers.0.mlp.fc1.weight"
    weight = load_file(STARTER)[f"cond_stage_model.transformer.{text}"].float()
    loaded = merged.encoders[0].load("cpu", torch.float32).state_dict()[text]
    torch.testing.assert_close(loaded, weight * (share.keep + share.add))
    other = replace(two, encoders=(replace(two.encoders[0], role="clip_g"),))
    with pytest.raises(ValueError, match="clip1 is clip_l and clip2 clip_g; merge text encoders of one family"):
        merge(ctx=context(), clip1=one, clip2=other, **inputs)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    tensors = load_file(STARTER)
    tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(128, 9, 3, 3)
    save_file(
        tensors, tmp_path / "inpaint.safetensors", {"arch": '{"clip_l": {"heads": 4}, "vae": {"norm_groups": 8}}'}
    )
    other, (one, _), ctx = read_checkpoint(tmp_path / "inpaint.safetensors", "inpaint"), starter("one"), context()
    assert other.unet is not None
    merging.merge_models(ctx=ctx, model1=one, model2=ModelValue(other.unet), ratio=0.5)
    (told,) = ctx.told
    assert told.endswith("input_blocks.0.0.weight [128, 4, 3, 3], there [128, 9, 3, 3]")


@pytest.mark.parametrize(
    ("merge", "count"), [(merging.merge_sd1, 30), (merging.merge_sd2, 30), (merging.merge_sdxl, 24)]
)
def test_every_block_has_an_input(merge: Any, count: int) -> None:
    ratios = getattr(merge, NODE_ATTRIBUTE).inputs[2:]
    assert len(ratios) == count and {(item.port, item.default) for item in ratios} == {("FLOAT", 1.0)}
    assert (ratios[0].name, ratios[-1].name) == ("time_embed.", "out.")


def merge_workflow(other: str, ratio: Any) -> Workflow:
    nodes = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "starter.safetensors"}},
        "2": {"class_type": "UNETLoader", "inputs": {"unet_name": other, "weight_dtype": "default"}},
        "3": {"class_type": "ModelMergeSD1", "inputs": {"model1": ["1", 0], "model2": ["2", 0], "out.": ratio}},
    }
    return Workflow.of({"nodegraph": 1, "nodes": nodes, "outputs": {"model": "3.0"}})


def test_a_graph_sets_the_ratio_of_a_block_and_refuses_another_family(tmp_path: Path) -> None:
    prefix = "model.diffusion_model."
    unet = {name.removeprefix(prefix): tensor for name, tensor in load_file(STARTER).items() if name.startswith(prefix)}
    (tmp_path / "models" / "checkpoints").mkdir(parents=True)
    (tmp_path / "models" / "checkpoints" / STARTER.name).symlink_to(STARTER)
    folder = tmp_path / "models" / "diffusion_models"
    folder.mkdir()
    save_file(unet, folder / "same.safetensors")
    wide = {name: torch.zeros(*tensor.shape[:1], 96) if ".attn2.to_k." in name or ".attn2.to_v." in name else tensor
            for name, tensor in unet.items()}  # fmt: skip
    save_file(wide, folder / "wide.safetensors")
    settings = Settings(home=tmp_path, device="cpu", dtype="fp32", cache_dir=None)
    with Session(settings, registry=Registry().with_entry_points()) as session:
        prepared = session.prepare(merge_workflow("same.safetensors", 0.25), wants_outputs=True)
        merged = session.submit(prepared, wants_values=True).result()["model"]
        (blend,) = merged.unet.overlays
        assert [(share.prefix, share.keep) for share in blend.shares if share.keep != 1] == [("out.", 0.25)]
        for document, problem in (
            (merge_workflow("wide.safetensors", 1.0), "model2 is of SD1 with prompts of 96 features"),
            (merge_workflow("same.safetensors", 1.5), "1.5 is out of range"),
        ):
            with pytest.raises(WorkflowError, match=problem):
                session.prepare(document, wants_outputs=True)
