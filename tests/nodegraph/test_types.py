"""Which link fits which input."""

from __future__ import annotations

import pytest

from nodegraph.types import Each, accepts


@pytest.mark.parametrize(
    ("source", "target", "fits"),
    [
        ("IMAGE", "IMAGE", True), ("IMAGE", "MASK", False), ("*", "IMAGE", True), ("IMAGE", "*", True),
        ("INT", "FLOAT", True), ("FLOAT", "INT", False), ("COMBO", "STRING", True), ("STRING", "COMBO", True),
        ("IMAGE", "MASK,IMAGE", True), ("IMAGE,MASK", "MASK", True), ("IMAGE", "MASK,LATENT", False),
        ("INT", "MASK,FLOAT", True), ("BOOLEAN", "INT", False), ("IMAGE", "MASK,*", True),
    ],
)  # fmt: skip
def test_links_fit_by_port(source: str, target: str, fits: bool) -> None:
    assert accepts(source, target) is fits


def test_each_is_a_tuple_of_its_own_kind() -> None:
    assert Each([1, 2]) == (1, 2)
    assert type(Each([1])) is Each
