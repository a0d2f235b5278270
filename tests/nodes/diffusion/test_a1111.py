"""AUTOMATIC1111's prompts: the syntax, the chunks, the weights, and what becomes of steps and AND."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.files import Folders
from nodes.diffusion.a1111 import embedding_names, emphasis, encode, read, schedule, tokenize
from nodes.diffusion.clip import END
from nodes.diffusion.schedules import model_sigmas, sampling_sigmas, sigma_of_t
from nodes.diffusion.text import CHUNK, Encoding, encode_prompt, finder, states, tokens_of
from tests.nodes.diffusion.test_text import Encoders

COMMA, CAT = tokens_of(",")[0], tokens_of("cat")[0]


def stretches(text: str, steps: int = 10) -> list[tuple[int, str]]:
    """A schedule with equal neighbours as one."""
    found: list[tuple[int, str]] = []
    for end, words in schedule(text, steps):
        if found and found[-1][1] == words:
            found.pop()
        found.append((end, words))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [(10, "a cat")]),
        ("a [cat:3]", [(3, "a "), (10, "a cat")]),
        ("a [cat: 3 ]", [(3, "a "), (10, "a cat")]),
        ("a [cat::0.4] b", [(4, "a cat b"), (10, "a  b")]),
        ("a [cat : dog : .5] b", [(5, "a cat  b"), (10, "a  dog  b")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("[[[b]]:2]", [(2, ""), (10, "[[b]]")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-1]", [(10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:1e9999]", [(10, "a")]),
        ("[a|b]", [(step, "ab"[(step - 1) % 2]) for step in range(1, 11)]),
        ("[fe|]male", [(step, "female" if step % 2 else "male") for step in range(1, 11)]),
        ("[a|b|c|d]", [(step, "abcd"[(step - 1) % 4]) for step in range(1, 11)]),
        ("[x [a|b]:8]", [(8, ""), (9, "x a"), (10, "x b")]),
        ("[embedding:x:0.5]", [(5, ""), (10, "embedding:x")]),
        ("[a:b embedding:x:3]", [(3, "a"), (10, "b embedding:x")]),
    ],
)
def test_a_text_changes_at_its_steps(text: str, expected: list[tuple[int, str]]) -> None:
    assert stretches(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a [unbalanced", "a [b", "a b]", "(a:b:c)", "a:b", "a|b", "[a:b]", "[a]", "[a:b:c:0.5]", "[a|b:0.5]",
        "[a:b:0.5x]", "[a (b:c:0.5]", "[:]", "[]", "\\[a:b:3\\]", "trailing \\", "((a][:b:c",
    ],
)  # fmt: skip
def test_what_is_no_schedule_stays_text(text: str) -> None:
    assert stretches(text) == [(10, text)]


def test_a_bracket_that_is_never_closed_hides_no_other() -> None:
    assert stretches("((a][:b:c [d:3]") == [(3, "((a][:b:c "), (10, "((a][:b:c d")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("a (b) [c] (d:1.5)", [("a ", 1.0), ("b", 1.1), (" ", 1.0), ("c", 1 / 1.1), (" ", 1.0), ("d", 1.5)]),
        ("((a))", [("a", 1.1 * 1.1)]),
        ("((a:2) b:3)", [("a", 6.0), (" b", 3.0)]),
        ("([a])", [("a", 1 / 1.1 * 1.1)]),
        ("(one)(word)", [("oneword", 1.1)]),
        (r"\(a\] \\", [(r"(a] " + "\\", 1.0)]),
        ("(a b", [("a b", 1.1)]),
        ("[a b", [("a b", 1 / 1.1)]),
        ("a) b] c:1.2)", [("a) b] c:1.2)", 1.0)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a: -0.5 )", [("a", -0.5)]),
        ("(embedding:name:1.2)", [("embedding:name", 1.2)]),
        ("", []),
    ],
)
def test_brackets_weigh_what_they_hold(text: str, expected: list[tuple[str, float]]) -> None:
    found = emphasis(text)
    assert [run.text for run in found] == [words for words, _ in expected]
    assert [run.weight for run in found] == pytest.approx([weight for _, weight in expected])


def test_break_is_a_word_and_loses_the_spaces_beside_it() -> None:
    found = emphasis("(a BREAK\nb:2) BREAKING")
    assert [(run.text, run.is_break) for run in found] == [
        ("a", False), ("", True), ("b", False), (" BREAKING", False),
    ]  # fmt: skip


def test_and_joins_prompts_of_their_own_weights() -> None:
    found = read("a cat :1.2 AND a [dog:2] AND (a\nfox:0.7) AND x: .5\n", 10)
    assert [prompt.weight for prompt in found] == [1.2, 1.0, 1.0, 0.5]
    assert found[0].texts == ((10, "a cat"),) and [end for end, _ in found[1].texts] == [2, 10]
    assert found[2].texts == ((10, " (a\nfox:0.7)"),) and found[3].texts == ((10, " x"),)


def test_without_an_and_a_number_at_the_end_is_text() -> None:
    assert read("ratio 16:9", 10) == [(((10, "ratio 16:9"),), 1.0)]
    assert len(read("SAND AND sand", 10)) == 2 and len(read("SAND and sand", 10)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <lora:detail:0.8> cat", r"'detail' with '<lora:detail:0.8>'; wire a LoraLoader node instead"),
        ("<hypernet:old:1>", "wire a HypernetworkLoader node instead"),
        ("a AND b :-1", "sum to 0 or less"),
        ("[" * 500 + "x" + "]" * 500, "more than 200 deep"),
    ],
)
def test_what_cannot_be_is_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text, 10)


def test_embeddings_are_found_in_all_parts_and_stretches() -> None:
    text = "a embedding:one [embedding:two::3] AND (embedding:three:1.2), [embedding:four|embedding:one]"
    assert embedding_names(text, 10) == ["one", "two", "three", "four"]


def lengths(text: str) -> list[int]:
    return [sum(bool(token != END) for token, _ in chunk) - 1 for chunk in tokenize(text, END)]


def test_a_full_chunk_ends_at_its_last_comma_if_that_is_near() -> None:
    assert lengths("cat " * 75) == [75] and lengths("cat " * 76) == [75, 1]
    assert lengths("cat " * 60 + ", " + "cat " * 15) == [61, 15]
    assert lengths("cat " * 54 + ", " + "cat " * 21) == [75, 1]
    assert lengths("cat " * 55 + ", " + "cat " * 20) == [56, 20]
    assert lengths("cat " * 75 + ", cat") == [75, 2]
    first, second = tokenize("cat " * 60 + ", " + "(cat:1.5) " * 15, END)
    assert first[61] == (COMMA, 1.0) and first[62:] == ((END, 1.0),) * 15
    assert second[1:16] == ((CAT, 1.5),) * 15


def test_break_fills_the_chunk_and_starts_another() -> None:
    first, second = tokenize("a cat BREAK (dog:1.2)", 0)
    assert [token for token, _ in first[3:]] == [END, *[0] * 73] and second[1] == (tokens_of("dog")[0], 1.2)
    assert lengths("BREAK cat") == [0, 1] and lengths("cat BREAK") == [1] and lengths("") == [0]


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    return Encoders()


def plain(encoders: Encoders, text: str) -> Encoding:
    return encode_prompt(encoders.parts, text, encoders.use)


@pytest.mark.parametrize("text", ["a cat", "", "cat " * 100])
def test_a_plain_prompt_is_encoded_as_ever(encoders: Encoders, text: str) -> None:
    (cond,) = encode(encoders.parts, text, encoders.use, steps=20)
    torch.testing.assert_close(cond.tokens, plain(encoders, text).tokens)
    torch.testing.assert_close(cond.pooled, plain(encoders, text).pooled)
    assert cond.options == {}


def test_weights_multiply_states_and_each_chunk_of_an_encoder_keeps_its_mean(encoders: Encoders) -> None:
    (cond,) = encode(encoders.parts, "a (cat:1.5) BREAK dog", encoders.use, steps=20)
    (raw,) = encode(encoders.parts, "a (cat:1.5) BREAK dog", encoders.use, steps=20, normalize=False)
    start = 0
    for part in encoders.parts:
        chunks = tokenize("a cat BREAK dog", part.config.pad_token)
        z = states(encoders.models[part.role], chunks).hidden
        wanted = z.clone()
        wanted[0, 2] *= 1.5
        own = slice(start, start + 16)
        torch.testing.assert_close(raw.tokens[0, :, own], wanted.flatten(0, 1))
        wanted[0] *= z[0].mean() / wanted[0].mean()
        torch.testing.assert_close(cond.tokens[0, :, own], wanted.flatten(0, 1))
        start += 16
    torch.testing.assert_close(cond.pooled, raw.pooled)


def test_the_texts_of_a_schedule_are_equally_long_and_share_their_means(encoders: Encoders) -> None:
    text = "a [(cat:1.5):dog BREAK x:5]"
    early, late = encode(encoders.parts, text, encoders.use, steps=10)
    assert early.tokens.shape == late.tokens.shape == (1, 2 * CHUNK, 32)
    model, pad = encoders.models["clip_l"], encoders.parts[0].config.pad_token
    z = [states(model, tokenize(words, pad)[:1]).hidden[0] for words in ("a cat", "a dog")]
    scaled = z[0].clone()
    scaled[2] *= 1.5
    ratio = (z[0].mean() + z[1].mean()) / (scaled.mean() + z[1].mean())
    torch.testing.assert_close(early.tokens[0, :CHUNK, :16], scaled * ratio)
    torch.testing.assert_close(late.tokens[0, :CHUNK, :16], z[1] * ratio)
    empty = plain(encoders, "").tokens[0]
    torch.testing.assert_close(early.tokens[0, CHUNK:, :16], empty[:, :16])


def test_stretches_of_steps_become_ranges_of_time(encoders: Encoders) -> None:
    conds = encode(encoders.parts, "[cat:dog:5]", encoders.use, steps=20)
    border = 9 / 39
    assert [cond.options for cond in conds] == [
        {"start_percent": 0.0, "end_percent": border}, {"start_percent": border, "end_percent": 1.0},
    ]  # fmt: skip
    torch.testing.assert_close(conds[1].tokens, plain(encoders, "dog").tokens)
    turns = encode(encoders.parts, "[cat|dog]", encoders.use, steps=4)
    assert [cond.options["end_percent"] for cond in turns] == [1 / 7, 3 / 7, 5 / 7, 1.0]
    assert turns[0].tokens is turns[2].tokens and turns[1].tokens is turns[3].tokens


@pytest.mark.parametrize("scheduler", ["normal", "simple", "sgm_uniform"])
@pytest.mark.parametrize("steps", [2, 3, 20, 50, 100])
def test_each_border_lies_between_its_steps(scheduler: str, steps: int) -> None:
    table = model_sigmas()
    sigmas = sampling_sigmas("euler", scheduler, steps, 1.0, table)
    borders = [999 * (1 - (2 * end - 1) / (2 * steps - 1)) for end in range(1, steps)]
    for end, border in enumerate(sigma_of_t(torch.tensor(borders), table), start=1):
        assert sigmas[end - 1] > border > sigmas[end]


def test_parts_of_and_have_strengths_and_are_made_equally_long(encoders: Encoders) -> None:
    conds = encode(encoders.parts, "cat :0.7 AND dog BREAK fox AND [a:b:2]", encoders.use, steps=4)
    assert [cond.options.get("strength") for cond in conds] == [0.7, 1.0, 1.0, 1.0]
    assert [cond.options.get("end_percent") for cond in conds] == [None, None, 3 / 7, 1.0]
    cat = plain(encoders, "cat").tokens
    torch.testing.assert_close(conds[0].tokens, torch.cat([cat, cat[:, -1:].repeat(1, CHUNK, 1)], dim=1))


def test_an_embedding_moves_whole_and_a_layer_can_be_asked_for(encoders: Encoders, tmp_path: Path) -> None:
    files = Folders.of(tmp_path)
    folder = files.roots("embeddings")[0]
    folder.mkdir(parents=True)
    word = tokens_of("red")
    tables = {role: model.text_model.embeddings.token_embedding.weight for role, model in encoders.models.items()}
    save_file({role: weight[word * 3].clone() for role, weight in tables.items()}, folder / "reds.safetensors")
    arguments: dict[str, Any] = {"steps": 4, "layer": -1}
    (found,) = encode(encoders.parts, "a (embedding:reds:1.2), cat", encoders.use, files=files, **arguments)
    (expected,) = encode(encoders.parts, "a (red red red:1.2), cat", encoders.use, **arguments)
    torch.testing.assert_close(found.tokens, expected.tokens)
    find = finder(files, encoders.parts[0])
    for count, places in [(72, [3]), (73, [0, 3])]:
        chunks = tokenize("cat " * count + "embedding:reds", END, find)
        assert [sum(isinstance(token, torch.Tensor) for token, _ in chunk) for chunk in chunks] == places


def test_no_encoder_is_a_sentence(encoders: Encoders) -> None:
    with pytest.raises(ValueError, match="no text encoder"):
        encode((), "a cat", encoders.use, steps=1)
