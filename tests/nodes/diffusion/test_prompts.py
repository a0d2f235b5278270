"""Reading prompts: weights, nesting, escapes."""

from __future__ import annotations

import pytest

from nodes.diffusion.prompts import segments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("((x))", [("x", 1.1 * 1.1)]),
        ("(x:1.3)", [("x", 1.3)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 2.0), (" c", 0.5)]),
        ("(a (b) c:0.5)", [("a ", 0.5), ("b", 0.55), (" c", 0.5)]),
        ("(x:-0.7)", [("x", -0.7)]),
        ("(bad:1.x)", [("bad:1.x", 1.1)]),
        ("(bad:nan)", [("bad:nan", 1.1)]),
        ("(:1.2)", [(":1.2", 1.1)]),
        ("()", []),
        ("", []),
        (r"\(x\) \\", [(r"(x) \\", 1.0)]),
        (r"(a \(b\):2)", [("a (b)", 2.0)]),
        ("a) b", [("a) b", 1.0)]),
        ("(a b", [("(a b", 1.0)]),
        ("[x] BREAK AND", [("[x] BREAK AND", 1.0)]),
    ],
)
def test_parentheses_weigh_what_they_hold(text: str, expected: list[tuple[str, float]]) -> None:
    assert [tuple(segment) for segment in segments(text)] == expected


@pytest.mark.parametrize("text", ["embedding:name", "a cat, embedding:dir/name, dog", "(embedding:name:1.2)"])
def test_a_textual_inversion_is_named_as_unsupported(text: str) -> None:
    with pytest.raises(ValueError, match=r"'embedding:.*not supported yet"):
        segments(text)


def test_hundreds_of_nested_parentheses_are_refused() -> None:
    assert segments("(" * 200 + "x" + ")" * 200)[0].weight == pytest.approx(1.1**200)
    with pytest.raises(ValueError, match="more than 200 deep"):
        segments("(" * 5000 + "x" + ")" * 5000)
