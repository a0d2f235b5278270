"""Weights with something done to them: made of the file, shared between variants, and gone without a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part, read_unet
from nodes.diffusion.overlays import Change
from nodes.diffusion.weights import build, recipe

CONFIG = UNetConfig(4, 4, 16, (1, 2), (1, 1), (1, 0), 1, 12, 8, None, False, norm_groups=16)
FIRST, LAST, MIDDLE = "input_blocks.0.0.weight", "out.2.weight", "middle_block.1.proj_in.weight"


@dataclass(frozen=True)
class Plus:
    """Adds to some tensors, and counts how often it is asked to."""

    amounts: tuple[tuple[str, float], ...]
    made: list[str] = field(default_factory=list, compare=False)

    @property
    def fingerprint(self) -> str:
        return repr(self.amounts)

    def keys(self, part: Part[Any]) -> Mapping[str, str]:
        return {name: f"+{amount}" for name, amount in self.amounts}

    def changes(self, part: Part[Any], device: torch.device) -> Mapping[str, Change]:
        def change(name: str, amount: float) -> Change:
            def changed(weight: Tensor) -> Tensor:
                assert weight.dtype == torch.float32
                self.made.append(name)
                return weight.add_(amount)

            return changed

        return {name: change(name, amount) for name, amount in self.amounts}


def plus(**amounts: float) -> Plus:
    names = {"first": FIRST, "middle": MIDDLE, "last": LAST}
    return Plus(tuple((names[name], amount) for name, amount in amounts.items()))


@pytest.fixture(params=[torch.float16, torch.float32], ids=str)
def part(request: pytest.FixtureRequest, tmp_path: Path) -> Part[Any]:
    torch.manual_seed(0)
    state = {name: tensor.to(request.param) for name, tensor in build(CONFIG).state_dict().items()}
    save_file(state, tmp_path / "unet.safetensors", metadata={"arch": '{"unet": {"norm_groups": 16}}'})
    return read_unet(tmp_path / "unet.safetensors", "digest")


def weights(module: nn.Module) -> dict[str, Tensor]:
    return module.state_dict()


def test_an_overlay_changes_what_it_names_and_nothing_else(part: Part[Any]) -> None:
    plain = weights(part.load("cpu", torch.float32))
    changed = weights(part.overlaid(plus(first=0.5, last=-2.0)).load("cpu", torch.float32))
    for name, tensor in plain.items():
        assert torch.equal(changed[name], tensor + {FIRST: 0.5, LAST: -2.0}.get(name, 0.0)), name


def test_overlays_follow_one_another(part: Part[Any]) -> None:
    twice = part.overlaid(plus(first=0.5)).overlaid(plus(first=0.25, middle=1.0))
    plain = weights(part.load("cpu", torch.float32))
    assert torch.equal(weights(twice.load("cpu", torch.float32))[FIRST], plain[FIRST] + 0.5 + 0.25)


def test_the_sum_is_rounded_once(part: Part[Any]) -> None:
    plain = weights(part.load("cpu", torch.float32))[FIRST]
    made = weights(part.overlaid(plus(first=1e-4)).load("cpu", torch.bfloat16))[FIRST]
    assert torch.equal(made, (plain + 1e-4).bfloat16())


def test_what_is_alike_in_variants_is_shared_and_only_the_rest_is_made(part: Part[Any]) -> None:
    kept, turned = plus(first=0.5), plus(last=1.0)
    before = part.overlaid(kept).overlaid(turned).load("cpu", torch.float32)
    again = plus(last=2.0)
    after = part.overlaid(kept).overlaid(again).load("cpu", torch.float32, [before])
    assert (kept.made, turned.made, again.made) == ([FIRST], [LAST], [LAST])
    for name, tensor in weights(after).items():
        assert (tensor.data_ptr() == weights(before)[name].data_ptr()) == (name != LAST), name
    assert torch.equal(weights(after)[LAST], weights(part.load("cpu", torch.float32))[LAST] + 2.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_without_its_overlays_a_model_is_the_file_bit_for_bit(part: Part[Any], dtype: torch.dtype) -> None:
    plain = part.load("cpu", dtype)
    changed = part.overlaid(plus(first=0.5, middle=3.0)).load("cpu", dtype, [plain])
    for back in (part.load("cpu", dtype, [changed]), part.load("cpu", dtype, [plain, changed])):
        for name, tensor in weights(back).items():
            assert torch.equal(tensor, weights(plain)[name]), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_variants_at_hand_change_no_bit_of_what_is_made(part: Part[Any], dtype: torch.dtype) -> None:
    wanted = part.overlaid(plus(first=1e-3, middle=1e-3))
    alone = weights(wanted.load("cpu", dtype))
    beside = weights(wanted.load("cpu", dtype, [part.load("cpu", dtype)]))
    assert all(torch.equal(tensor, beside[name]) for name, tensor in alone.items())


def test_the_fingerprint_follows_the_overlays_and_the_base_does_not(part: Part[Any]) -> None:
    one, other = part.overlaid(plus(first=0.5)), part.overlaid(plus(first=0.25))
    assert one.base == other.base == part.base == part.fingerprint
    assert len({part.fingerprint, one.fingerprint, other.fingerprint, one.overlaid(plus(first=0.25)).fingerprint}) == 4
    assert one.fingerprint == part.overlaid(plus(first=0.5)).fingerprint


def test_a_recipe_gives_any_tensor_alone(part: Part[Any]) -> None:
    plain = weights(part.load("cpu", torch.float32))
    with recipe(part.overlaid(plus(middle=1.5)), "cpu") as found:
        assert set(found.names) == set(plain)
        for _ in range(2):  # made in a place of its own, not in the mapped file
            assert torch.equal(found.tensor(MIDDLE), plain[MIDDLE] + 1.5)
        assert torch.equal(found.tensor(LAST), plain[LAST])
        assert (found.key(MIDDLE), found.key(LAST)) == (("+1.5",), ())
