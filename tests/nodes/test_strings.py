"""Nodes of texts."""

from __future__ import annotations

import pytest

from nodegraph.errors import WorkflowError
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from nodes import strings


def test_texts_are_put_together_and_cut():
    assert strings.concatenate(string_a="a", string_b="b", delimiter=", ") == "a, b"
    assert strings.substring(string="abcdef", start=1, end=-1) == "bcde"
    assert strings.string_length(string="añ漢").length == 3


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("UPPERCASE", "A CAT's EAR".upper()),
        ("lowercase", "a cat's ear"),
        ("Capitalize", "A cat's ear"),
        ("Title Case", "A Cat'S Ear"),
    ],
)
def test_letters_are_made_large_and_small(mode, wanted):
    assert strings.convert_case(string="a CAT's ear", mode=mode) == wanted


def test_spaces_are_cut_off_at_either_end():
    assert [strings.trim(string=" a\n", mode=mode) for mode in ("Both", "Left", "Right")] == ["a", "a\n", " a"]


def test_parts_are_replaced_and_found():
    assert strings.replace_text(string="a.b.c", find=".", replace="") == "abc"
    assert strings.contains(string="A Cat", substring="cat", case_sensitive=False).contains
    assert not strings.contains(string="A Cat", substring="cat").contains


@pytest.mark.parametrize(("mode", "wanted"), [("Starts With", True), ("Ends With", False), ("Equal", False)])
def test_texts_are_compared(mode, wanted):
    assert strings.compare(string_a="Cathedral", string_b="cat", mode=mode, case_sensitive=False) is wanted
    assert not strings.compare(string_a="Cathedral", string_b="cat", mode=mode)


def test_a_pattern_is_found_as_its_flags_say():
    def found(pattern, **flags):
        return strings.regex_match(string="one\nTwo", regex_pattern=pattern, **flags).matches

    assert found("two") and not found("two", case_insensitive=False)
    assert not found("^two") and found("^two", multiline=True)
    assert not found("one.two") and found("one.two", dotall=True)


@pytest.mark.parametrize(
    ("mode", "pattern", "group", "wanted"),
    [
        ("First Match", r"\d+", 1, "12"),
        ("First Match", "x", 1, ""),
        ("All Matches", r"\d+", 1, "12\n345"),
        ("All Matches", r"([a-z])(\d+)", 1, "a\nb"),
        ("First Group", r"([a-z])(\d+)", 2, "12"),
        ("First Group", r"([a-z])(\d+)", 0, "a12"),
        ("First Group", r"([a-z])(\d+)", 3, ""),
        ("First Group", r"(x)?\d", 1, ""),
        ("All Groups", r"([a-z])(\d+)", 2, "12\n345"),
        ("All Groups", r"\d+", 0, ""),
        ("All Groups", r"(a)?\d", 1, "a"),
    ],
)
def test_a_pattern_extracts(mode, pattern, group, wanted):
    found = strings.regex_extract(string="a12 b345", regex_pattern=pattern, mode=mode, group_index=group)
    assert found == wanted


def test_a_pattern_replaces():
    def replaced(pattern, replace, **options):
        return strings.regex_replace(string="a1 B2", regex_pattern=pattern, replace=replace, **options)

    assert replaced(r"([a-z])(\d)", r"\2\1") == "1a 2B"
    assert replaced(r"(?P<n>\d)", r"<\g<n>>", count=1) == "a<1> B2"
    with pytest.raises(ValueError, match="replace is"):
        replaced(r"\d", r"\3")


def test_a_search_that_runs_away_is_ended():
    pattern = strings._compiled("(a|aa|b?a)+$")
    with pytest.raises(ValueError, match=r"did not come to an end in 0\.02 seconds"):
        strings.bounded(lambda seconds: pattern.search("a" * 64 + "!", timeout=seconds), 0.02)


def test_a_wrong_pattern_is_told_before_running(tmp_path):
    nodes = {"1": {"class_type": "RegexMatch", "inputs": {"string": "a", "regex_pattern": "(a"}}}
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        with pytest.raises(WorkflowError, match=r"regex_pattern '\(a' is no regular expression: missing \)"):
            session.prepare(Workflow.of(nodes), ["1"])


def test_outputs_have_comfyui_names():
    outputs = [
        function.__nodegraph_spec__.outputs[0]
        for function in (strings.string_length, strings.contains, strings.regex_match, strings.compare)
    ]
    assert [(output.name, output.port) for output in outputs] == [
        ("length", "INT"), ("contains", "BOOLEAN"), ("matches", "BOOLEAN"), ("BOOLEAN", "BOOLEAN"),
    ]  # fmt: skip
