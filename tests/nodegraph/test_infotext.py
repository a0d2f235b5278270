"""A1111's texts, read: prompts, fields, tags, embeddings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.a1111 import from_infotext
from nodegraph.errors import WorkflowError
from nodegraph.infotext import Network, is_infotext, read, with_embeddings, without_networks
from nodegraph.workflow import Workflow

WHOLE = """a cat, <lora:ink:0.8>
masterpiece, (soft light:1.2)
Negative prompt: blurry,
Steps: many, lowres
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x768, Model: some model, \
Lora hashes: "ink: 12ab, b: 34cd", Hires prompt: "a \\"cat\\",\\nlarge", ControlNet 0: "Module: canny, Weight: 1", \
Civitai resources: [{"type":"lora","modelName":"Ink, wet"}], Version: v1.6.0
Template: a {cat|dog}"""


def test_prompts_fields_and_what_follows_are_told_apart() -> None:
    found = read(WHOLE.replace("\n", "\r\n"))
    assert found.prompt == "a cat, <lora:ink:0.8>\nmasterpiece, (soft light:1.2)"
    assert found.negative == "blurry,\nSteps: many, lowres"
    assert found.fields == {
        "Steps": "20", "Sampler": "DPM++ 2M Karras", "CFG scale": "7", "Seed": "1", "Size": "512x768",
        "Model": "some model", "Lora hashes": "ink: 12ab, b: 34cd", "Hires prompt": 'a "cat",\nlarge',
        "ControlNet 0": "Module: canny, Weight: 1",
        "Civitai resources": '[{"type":"lora","modelName":"Ink, wet"}]', "Version": "v1.6.0",
    }  # fmt: skip
    assert found.rest == "Template: a {cat|dog}"


def test_prompts_may_be_empty_and_a_text_without_fields_is_none() -> None:
    assert read("Negative prompt: bad\nSteps: 4, Seed: 2")[:3] == ("", "bad", {"Steps": "4", "Seed": "2"})
    assert read("Steps: 4, Seed: 2")[:2] == ("", "")
    assert not is_infotext("Steps to take: 20, each") and not is_infotext('{"Steps": 20}')
    with pytest.raises(WorkflowError, match="no text of A1111's; expected a line such as 'Steps: 20"):
        read("a cat")


@pytest.mark.parametrize(
    ("tag", "network"),
    [
        ("<lora:ink>", Network("loras", "ink", 1.0, 1.0)),
        ("<lora:ink:0.8>", Network("loras", "ink", 0.8, 0.8)),
        ("<LYCO:ink:0.5:0.7>", Network("loras", "ink", 0.7, 0.5)),
        ("<lora:ink:te=0.2:unet=0.3>", Network("loras", "ink", 0.3, 0.2)),
        ("<lora:ink:te=0.2>", Network("loras", "ink", 0.2, 0.2)),
        ("<lora:ink:-1:lbw=MIDD>", Network("loras", "ink", -1.0, -1.0, ("lbw=MIDD",))),
        ("<lora:ink:1:1:16>", Network("loras", "ink", 1.0, 1.0, ("16",))),
        ("<lora:ink:1:1,0,1>", Network("loras", "ink", 1.0, 1.0, ("1,0,1",))),
        ("<hypernet:old:0.4>", Network("hypernetworks", "old", 0.4, 0.4)),
        ("<style:x:1>", Network("", "style:x:1", 1.0, 1.0)),
    ],
)
def test_a_tag_is_a_network_with_its_strengths(tag: str, network: Network) -> None:
    assert without_networks(f"a {tag}, b") == ("a , b", [network])


def test_networks_keep_their_order_and_what_is_no_tag_stays() -> None:
    text, networks = without_networks("<lora:b:1> 1 < 2 > 0, <3 <lora:a:1>")
    assert (text, [item.name for item in networks]) == ("1 < 2 > 0, <3", ["b", "a"])


@pytest.mark.parametrize(
    ("prompt", "last"),
    [
        ("<a:" * 300_000, "7"),
        ("<lora:a:" + "1" * 10**6 + "x>", "7"),
        ("x " * 500_000, "7"),
        ("a", "1" * 10**6 + "x"),
        ("a", "7, a" + " " * 10**6 + "b"),
        ("<lora:a:1>" * 30_000, "7"),
        ("a", "[" * 10**6),
        ("a", "1e308"),
    ],
)
def test_a_text_of_a_megabyte_is_read_as_fast_as_any(prompt: str, last: str) -> None:
    """Where reading takes the square of the length this does not end."""
    text = f"{prompt}\nSteps: 20, Seed: 1, Hires upscaler: Latent, Hires upscale: {last}"
    Workflow.of(from_infotext(text, lambda kind: ["x.pt"])[0])


def test_names_of_embeddings_are_marked_where_they_stand_alone() -> None:
    names = ["EasyNegative", "bad-hands-5", "bad"]
    text = "(easynegative:1.2), a,bad-hands-5 x-bad bad_thing badly, [cat:bad:3]. EASYNEGATIVE. embedding:bad"
    assert with_embeddings(text, names) == (
        "(embedding:EasyNegative:1.2), a, embedding:bad-hands-5 x-bad bad_thing badly, [cat: embedding:bad:3]."
        " embedding:EasyNegative . embedding:bad"
    )
    assert with_embeddings(text, []) == text


WORDS = st.lists(
    st.sampled_from(
        ["<lora:a:", ">", "Steps: 3,", "\n", "Negative prompt:", '"', "\\", "Size: 9x9", ",", ": ", "[{", "é"]
    )
    | st.sampled_from(["Seed: 1e999", "Hires upscale: 2", "Sampler: x Karras", "Model: ", "VAE: v", "RNG: CPU", "\x00"])
    | st.text(max_size=5)
).map("".join)


@given(WORDS, WORDS)
def test_whatever_stands_there_gives_a_document(before: str, after: str) -> None:
    document, told = from_infotext(f"{before}\nSteps: 20, {after}", lambda kind: ["x.pt", "a/b.safetensors"])
    assert Workflow.of(document).dumps().encode() and all(line.endswith(".") for line in told)
