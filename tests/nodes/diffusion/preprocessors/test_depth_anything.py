"""Depth Anything from its original files, against the model of transformers that has the same weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers as tf

from nodegraph.errors import FileProblem
from nodes.diffusion.preprocessors import depth
from nodes.diffusion.preprocessors.depth_anything import DepthAnythingPart
from tests.nodes.diffusion.preprocessors.hosts import Host, bytes_of, picture, ref
from tests.nodes.diffusion.preprocessors.models import spread

LAYERS, SIDE = 8, 56
TAPS = {1: [5, 6, 7, 8], 2: [2, 4, 6, 8]}


def made(version):
    backbone = tf.Dinov2Config(
        hidden_size=64, num_hidden_layers=LAYERS, num_attention_heads=1, image_size=SIDE, patch_size=14,
        out_indices=TAPS[version], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = tf.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=64, patch_size=14, neck_hidden_sizes=[4, 6, 8, 8],
        fusion_hidden_size=8, head_hidden_size=4,
    )  # fmt: skip
    model = spread(tf.DepthAnythingForDepthEstimation(config), 1.5)
    torch.nn.init.constant_(model.head.conv3.bias, 3.0)
    return model


def original(model):
    """The tensors under the names of the original `dpt.py` and `dinov2.py`."""
    vit, neck, head = model.backbone, model.neck, model.head
    found = {
        "pretrained.cls_token": vit.embeddings.cls_token, "pretrained.mask_token": vit.embeddings.mask_token,
        "pretrained.pos_embed": vit.embeddings.position_embeddings,
    }  # fmt: skip

    def put(name, module):
        found.update({f"{name}.{key}": tensor for key, tensor in module.state_dict().items()})

    put("pretrained.patch_embed.proj", vit.embeddings.patch_embeddings.projection)
    put("pretrained.norm", vit.layernorm)
    for i, layer in enumerate(vit.encoder.layer):
        block, attention = f"pretrained.blocks.{i}", dict(layer.attention.named_modules())
        linears = [module for module in attention.values() if isinstance(module, torch.nn.Linear)]
        for key in ("weight", "bias"):
            found[f"{block}.attn.qkv.{key}"] = torch.cat([getattr(linear, key) for linear in linears[:3]])
        put(f"{block}.attn.proj", linears[3])
        found |= {f"{block}.ls1.gamma": layer.layer_scale1.lambda1, f"{block}.ls2.gamma": layer.layer_scale2.lambda1}
        for name, module in (("norm1", layer.norm1), ("norm2", layer.norm2), ("mlp.fc1", layer.mlp.fc1),
                             ("mlp.fc2", layer.mlp.fc2)):  # fmt: skip
            put(f"{block}.{name}", module)
    for i, layer in enumerate(neck.reassemble_stage.layers):
        put(f"depth_head.projects.{i}", layer.projection)
        if i != 2:
            put(f"depth_head.resize_layers.{i}", layer.resize)
        put(f"depth_head.scratch.layer{i + 1}_rn", neck.convs[i])
    for i, layer in enumerate(reversed(neck.fusion_stage.layers), 1):
        name = f"depth_head.scratch.refinenet{i}"
        put(f"{name}.out_conv", layer.projection)
        for unit, residual in ((1, layer.residual_layer1), (2, layer.residual_layer2)):
            put(f"{name}.resConfUnit{unit}.conv1", residual.convolution1)
            put(f"{name}.resConfUnit{unit}.conv2", residual.convolution2)
    put("depth_head.scratch.output_conv1", head.conv1)
    put("depth_head.scratch.output_conv2.0", head.conv2)
    put("depth_head.scratch.output_conv2.2", head.conv3)
    return {name: tensor.detach().clone() for name, tensor in found.items()}


@pytest.mark.parametrize("version", [1, 2])
def test_an_original_file_gives_the_depth_of_its_model(tmp_path, version):
    model, image = made(version), picture(1, SIDE, SIDE)
    torch.save(original(model), tmp_path / "depth.pth")
    part = DepthAnythingPart(ref(tmp_path / "depth.pth"), version)
    mean, std = (torch.tensor(row).view(1, 3, 1, 1) for row in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        wanted = model((bytes_of(image) / 255 - mean) / std).predicted_depth[:, None]
    found = depth.estimate(Host(), part, bytes_of(image))
    assert wanted.std() > 0.01 and torch.allclose(found, wanted, atol=1e-3)
    grown = depth.whole(Host(), part, image, 64)
    scaled = F.interpolate((depth.unit(wanted) * 255).floor(), size=(64, 64), mode="bicubic").clamp(0, 255)
    assert (grown[..., 0] * 255 - scaled[:, 0]).abs().max() < 2.5


def test_the_versions_differ_in_the_layers_they_look_at(tmp_path):
    torch.save(original(made(2)), tmp_path / "depth.pth")
    parts = [DepthAnythingPart(ref(tmp_path / "depth.pth"), version) for version in (1, 2)]
    assert parts[0].fingerprint != parts[1].fingerprint and parts[0].nbytes > 1000
    x = bytes_of(picture(1, SIDE, SIDE))
    assert not torch.allclose(depth.estimate(Host(), parts[0], x), depth.estimate(Host(), parts[1], x), atol=1e-3)


@pytest.mark.parametrize("is_cut", [False, True])
def test_another_file_is_refused(tmp_path, is_cut):
    tensors = original(made(2)) if is_cut else {"a.weight": torch.zeros(1)}
    tensors.pop("depth_head.scratch.output_conv2.2.bias", None)
    torch.save(tensors, tmp_path / "wrong.pth")
    with pytest.raises(FileProblem, match=r"wrong.pth is no Depth Anything; expected a file such as depth_anything_v2"):
        DepthAnythingPart(ref(tmp_path / "wrong.pth"), 2).load(Host.device, torch.float32)
