"""Reading prompts: weights, nesting, escapes, names of embeddings."""

from __future__ import annotations

import pytest

from nodes.diffusion.prompts import embedding_names, pieces, segments


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", ["a cat"]),
        ("embedding:name", [("name",)]),
        ("a cat, embedding:dir/name, dog", ["a cat,", ("dir/name",), ", dog"]),
        ("a\nembedding:one embedding:two.pt cat", ["a", ("one",), ("two.pt",), " cat"]),
        ("embedding: name", [("name",)]),
        ("embedding:name,, cat", [("name",), ",, cat"]),
        ("embedding:one\ttab", [("one",), "\ttab"]),
        ("(a,embedding:name) preembedding:x", ["(a,embedding:name) preembedding:x"]),
        ("  ", []),
    ],
)
def test_an_embedding_is_named_at_the_start_or_after_a_space(text: str, expected: list[str | tuple[str]]) -> None:
    found = [(piece.text,) if piece.is_embedding else piece.text for piece in pieces(text)]
    assert found == expected


def test_each_embedding_of_a_prompt_is_named_once() -> None:
    assert embedding_names("(embedding:a:1.2), embedding:b (x embedding:a)") == ["a", "b"]
    assert embedding_names("a cat") == []


@pytest.mark.parametrize("text", ["embedding:", "a cat embedding:, dog", "embedding: embedding:b"])
def test_an_embedding_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="followed by no name"):
        embedding_names(text)


def test_hundreds_of_nested_parentheses_are_refused() -> None:
    assert segments("(" * 200 + "x" + ")" * 200)[0].weight == pytest.approx(1.1**200)
    with pytest.raises(ValueError, match="more than 200 deep"):
        segments("(" * 5000 + "x" + ")" * 5000)
