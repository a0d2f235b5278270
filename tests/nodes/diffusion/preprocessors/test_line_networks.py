"""The small networks against the same layers called one by one, with files named as their makers name them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nodegraph.errors import FileProblem
from nodes.diffusion.preprocessors import drawn
from nodes.diffusion.preprocessors.line_networks import LinePart
from nodes.diffusion.preprocessors.lines import thinned
from tests.nodes.diffusion.preprocessors.hosts import Host, bytes_of, picture, ref

IMAGE = picture(2, 64, 64)


def weights(shapes, seed=0, scale=1.0):
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=random) * scale / max(1, torch.tensor(shape[1:]).prod().item()) ** 0.5
        for name, shape in shapes.items()
    }


def saved(path, tensors):
    torch.save(tensors, path)
    return ref(path)


@pytest.fixture
def hed(tmp_path):
    shapes, before = {"norm": (1, 3, 1, 1)}, 3
    for block, (width, depth) in enumerate([(4, 2), (6, 2), (8, 3)], 1):
        for i in range(depth):
            shapes |= {
                f"block{block}.convs.{i}.weight": (width, before, 3, 3),
                f"block{block}.convs.{i}.bias": (width,),
            }
            before = width
        shapes |= {f"block{block}.projection.weight": (1, width, 1, 1), f"block{block}.projection.bias": (1,)}
    tensors = weights(shapes, scale=1.2) | {"norm": torch.tensor([120.0, 110.0, 100.0]).view(1, 3, 1, 1)}
    tensors = {name: tensor * 0.05 if "projection" in name else tensor for name, tensor in tensors.items()}
    return tensors, saved(tmp_path / "ControlNetHED.pth", tensors)


def soft(tensors, x):
    x, found = x - tensors["norm"], []
    for block, depth in enumerate([2, 2, 3], 1):
        x = F.max_pool2d(x, 2) if block > 1 else x
        for i in range(depth):
            name = f"block{block}.convs.{i}"
            x = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1).relu()
        name = f"block{block}.projection"
        logits = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        found.append(F.interpolate(logits, size=(64, 64), mode="bilinear"))
    return torch.stack(found).mean(0).sigmoid()


def test_soft_edges_are_the_mean_of_all_sizes(hed):
    tensors, file = hed
    host = Host()
    wanted = soft(tensors, bytes_of(IMAGE))
    found = drawn.soft_edges(host, file, IMAGE, 64, is_safe=False)
    assert wanted.std() > 0.05
    assert torch.allclose(found[..., 0], wanted[:, 0], atol=1.01 / 255)
    assert host.steps == [(1, 2), (2, 2)]


def test_safe_edges_have_four_strengths(hed):
    tensors, file = hed
    found = drawn.soft_edges(Host(), file, IMAGE, 64, is_safe=True)
    assert set((found * 255).round().unique().tolist()) <= {0.0, 127.0, 255.0}
    wanted = ((soft(tensors, bytes_of(IMAGE)) * 3).floor() / 2).clamp(max=1)[:, 0]
    assert (found[..., 0] - wanted).abs().mean() < 0.01


def test_fake_scribbles_are_the_ridges_of_soft_edges(hed):
    tensors, file = hed
    found = drawn.soft_edges(Host(), file, IMAGE, 64, is_safe=False, is_scribble=True)
    wanted = thinned((soft(tensors, bytes_of(IMAGE)) * 255).floor()) / 255
    assert 0 < wanted.mean() < 1 and (found[..., 0] - wanted[:, 0]).abs().mean() < 0.02


def test_line_art_is_drawn_by_the_generator(tmp_path):
    shapes = {
        "model0.1": (4, 3, 7, 7), "model1.0": (8, 4, 3, 3), "model1.3": (16, 8, 3, 3),
        "model2.0.conv_block.1": (16, 16, 3, 3), "model2.0.conv_block.5": (16, 16, 3, 3),
        "model3.0": (16, 8, 3, 3), "model3.3": (8, 4, 3, 3), "model4.1": (1, 4, 7, 7),
    }  # fmt: skip
    biases = {name: shape[1] if name.startswith("model3") else shape[0] for name, shape in shapes.items()}
    t = weights({f"{name}.weight": shape for name, shape in shapes.items()}) | weights(
        {f"{name}.bias": (size,) for name, size in biases.items()}, 1
    )

    def conv(x, name, pad=0, stride=1, edge=1):
        x = F.pad(x, (pad,) * 4, "reflect") if pad else x
        return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], stride, 0 if pad else edge)

    def up(x, name):
        return F.conv_transpose2d(x, t[f"{name}.weight"], t[f"{name}.bias"], 2, 1, 1)

    def norm(x):
        return F.instance_norm(x).relu()

    x = norm(conv(bytes_of(IMAGE) / 255, "model0.1", 3))
    x = norm(conv(norm(conv(x, "model1.0", stride=2)), "model1.3", stride=2))
    x = x + F.instance_norm(conv(norm(conv(x, "model2.0.conv_block.1", 1)), "model2.0.conv_block.5", 1))
    wanted = 1 - conv(norm(up(norm(up(x, "model3.0")), "model3.3")), "model4.1", 3).sigmoid()[:, 0]
    found = drawn.line_art(Host(), saved(tmp_path / "sk_model.pth", t), IMAGE, 64)
    assert wanted.std() > 0.05 and torch.allclose(found[..., 1], wanted, atol=1.01 / 255)


def test_anime_is_drawn_in_sizes_of_256(tmp_path):
    shapes, place, widths = {}, "model.model.", [4, 6, 8]
    for i, width in enumerate(widths):
        down, up = ("0", "3") if i == 0 else ("1", "3" if i == len(widths) - 1 else "5")
        outer, inner = widths[i - 1] if i else 3, width if i == len(widths) - 1 else 2 * width
        shapes |= {f"{place}{down}.weight": (width, outer, 4, 4), f"{place}{down}.bias": (width,)}
        outer = outer if i else 1
        shapes |= {f"{place}{up}.weight": (inner, outer, 4, 4), f"{place}{up}.bias": (outer,)}
        place += "1.model." if i == 0 else "3.model."
    t = weights(shapes)
    file = saved(tmp_path / "netG.pth", {f"module.{name}": tensor for name, tensor in t.items()})

    def conv(x, name):
        return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], 2, 1)

    def up(x, name):
        return F.conv_transpose2d(x.relu(), t[f"{name}.weight"], t[f"{name}.bias"], 2, 1)

    large = F.interpolate(bytes_of(IMAGE), size=(256, 256), mode="bicubic").round().clamp(0, 255)
    one = conv(large / 127.5 - 1, "model.model.0")
    two = F.instance_norm(conv(F.leaky_relu(one, 0.2), "model.model.1.model.1"))
    three = conv(F.leaky_relu(two, 0.2), "model.model.1.model.3.model.1")
    two = torch.cat([two, F.instance_norm(up(three, "model.model.1.model.3.model.3"))], 1)
    one = torch.cat([one, F.instance_norm(up(two, "model.model.1.model.5"))], 1)
    lines = (up(one, "model.model.3").tanh() * 127.5 + 127.5).floor()
    wanted = 255 - F.avg_pool2d(lines, 4)[:, 0].round()
    found = drawn.anime_line_art(Host(), file, IMAGE, 64)
    assert wanted.std() > 5 and (found[..., 0] * 255 - wanted).abs().max() <= 1.01


@pytest.mark.parametrize("kind", ["hed", "lineart", "lineart_anime"])
def test_another_file_is_told_with_where_the_right_one_is(tmp_path, kind):
    part = LinePart(kind, saved(tmp_path / "wrong.pth", {"conv.weight": torch.zeros(1)}))
    with pytest.raises(FileProblem, match=r"wrong.pth: is no network that draws .*expected .*annotators"):
        part.load(torch.device("cpu"), torch.float32)


def test_equal_files_load_once(hed):
    _, file = hed
    part = LinePart("hed", file)
    assert part.fingerprint == part.base == LinePart("hed", file).fingerprint
    assert part.nbytes > 1000 and part.dtype == "fp32"
