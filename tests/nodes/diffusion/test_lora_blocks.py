"""Strengths of a LoRA by block, written as text."""

from __future__ import annotations

import pytest

from nodes.diffusion.lora_blocks import block_of, parse_blocks

INS = [f"IN{n:02}" for n in range(12)]
OUTS = [f"OUT{n:02}" for n in range(12)]
EVERY = ["BASE", *INS, "MID", *OUTS]


def nonzero(text: str) -> list[str]:
    found = dict(parse_blocks(text))
    assert list(found) == EVERY
    return [block for block in EVERY if found[block]]


def test_pairs_leave_the_other_blocks_as_they_are() -> None:
    found = dict(parse_blocks("IN01:0.5, MID : 1, out03-05:0, base:-0.25, OUT10-OUT11:2"))
    assert found == {"IN01": 0.5, "MID": 1.0, "OUT03": 0.0, "OUT04": 0.0, "OUT05": 0.0, "BASE": -0.25, "OUT10": 2.0,
                     "OUT11": 2.0}  # fmt: skip
    assert dict(parse_blocks("IN:0\nIN4:1")) == {block: float(block == "IN04") for block in INS}
    assert parse_blocks("  ") == ()


@pytest.mark.parametrize(
    ("count", "blocks"),
    [
        (26, EVERY),
        (20, ["BASE", *INS[:9], "MID", *OUTS[:9]]),
        (17, ["BASE", *(INS[n] for n in (1, 2, 4, 5, 7, 8)), "MID", *OUTS[3:]]),
        (12, ["BASE", *(INS[n] for n in (4, 5, 7, 8)), "MID", *OUTS[:6]]),
    ],
)
def test_a_list_of_numbers_names_the_blocks_of_its_length_and_zeroes_the_others(count: int, blocks: list[str]) -> None:
    numbers = [round(0.1 * (n + 1), 1) for n in range(count)]
    found = dict(parse_blocks(",".join(map(str, numbers))))
    assert found == dict.fromkeys(EVERY, 0.0) | dict(zip(blocks, numbers, strict=True))


def test_presets_are_ranges_of_blocks() -> None:
    assert nonzero("ALL") == EVERY and nonzero("none") == []
    assert nonzero("INALL") == ["BASE", *INS] and nonzero("OUTALL") == ["BASE", *OUTS]
    assert nonzero("INS") == ["BASE", *INS[:5]] and nonzero("IND") == ["BASE", *INS[5:]]
    assert nonzero("MIDD") == ["BASE", *INS[5:], "MID", *OUTS[:7]]
    assert nonzero("OUTD") == ["BASE", *OUTS[:7]] and nonzero("OUTS") == ["BASE", *OUTS[7:]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1,0,1", "3 numbers are given; expected 12"),
        ("IN1:x", "'IN1:X' is no block with its number"),
        ("IN1:1, 0.5", "'0.5' is no block with its number"),
        ("IN12:1", "'IN12' is no block"),
        ("OUT05-03:1", "'OUT05-03' is no block or range"),
        ("INMID:1", "'INMID' is no block"),
        ("OUTER", "gives no strengths of blocks; expected numbers, pairs such as IN01:0.5, or one of NONE, ALL"),
        ("nan,1,1,1,1,1,1,1,1,1,1,1", "gives no strengths"),
    ],
)
def test_what_is_no_strength_of_blocks_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_blocks(text)


def test_a_tensor_is_of_its_block() -> None:
    names = ("input_blocks.4.1.proj_in.weight", "middle_block.1.proj_in.weight", "output_blocks.11.0.in_layers.2.bias",
             "time_embed.0.weight", "out.2.weight")  # fmt: skip
    assert [block_of("unet", name) for name in names] == ["IN04", "MID", "OUT11", "", ""]
    assert block_of("clip_g", "text_model.encoder.layers.0.mlp.fc1.weight") == "BASE"
