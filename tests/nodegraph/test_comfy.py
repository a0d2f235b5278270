"""ComfyUI's editor files: each of their devices as a graph of ours, and what is told when a file is wrong."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph.comfy import from_editor
from nodegraph.comfy_file import is_editor_file, widget_values
from nodegraph.documents import comfy_graph
from nodegraph.errors import WorkflowError
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from tests.nodegraph import trivial

REGISTRY = Registry({**Registry().with_entry_points().specs, **trivial.REGISTRY.specs})
A_SUBGRAPH = "1f2e3d4c-0000-4000-8000-000000000001"
ANOTHER = "1f2e3d4c-0000-4000-8000-000000000002"


def socket(name: str, link: int | None = None, type: str = "INT", *, widget: bool = False) -> dict[str, Any]:
    return {"name": name, "type": type, "link": link, **({"widget": {"name": name}} if widget else {})}


def item(
    id: int | str, type: str, *inputs: dict[str, Any], values: Any = None, out: Any = ("INT",), **rest: Any
) -> Any:
    outputs = [{"name": kind, "type": kind, "links": None} for kind in out]
    return {
        "id": id, "type": type, "inputs": list(inputs), "outputs": outputs, "widgets_values": values, "mode": 0, **rest
    }  # fmt: skip


def file(*nodes: Any, links: Any = (), **rest: Any) -> dict[str, Any]:
    return {"last_node_id": 9, "nodes": list(nodes), "links": [list(link) for link in links], "version": 0.4, **rest}


def document(editor: Any) -> dict[str, Any]:
    return from_editor(editor, REGISTRY.get)


def graph(editor: Any) -> dict[str, Any]:
    """The inputs of each node that runs."""
    return {name: node["inputs"] for name, node in running(document(editor)).items()}


def running(found: Any) -> dict[str, Any]:
    """The nodes of a document as ComfyUI would be sent them."""
    return comfy_graph(Workflow.of(found), REGISTRY.get)


def what(editor: Any) -> str:
    with pytest.raises(WorkflowError) as error:
        document(editor)
    return str(error.value)


def subgraph(id: str, *nodes: Any, links: Any, inputs: Any = (), **rest: Any) -> dict[str, Any]:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {
        "id": id, "name": "Twice", "inputNode": {"id": -10}, "outputNode": {"id": -20}, "nodes": list(nodes),
        "inputs": [{"id": f"i{name}", "name": name, "type": "INT"} for name in inputs],
        "links": [dict(zip(names, link, strict=True)) for link in links], **rest,
    }  # fmt: skip


ONE = item(1, "Const", values=[7])
TEXT_TO_IMAGE = file(
    item(4, "CheckpointLoaderSimple", values=["starter.safetensors"], out=("MODEL", "CLIP", "VAE"), pos=[26, 474],
         properties={"Node name for S&R": "CheckpointLoaderSimple", "models": [
             {"name": "starter.safetensors", "url": "https://example.org/starter", "directory": "checkpoints"}]}),
    item(6, "CLIPTextEncode", socket("clip", 3, "CLIP"), values=["a red cube"], out=("CONDITIONING",),
         title="CLIP Text Encode (Positive Prompt)", pos={"0": 415, "1": 186}),
    item(7, "CLIPTextEncode", socket("clip", 5, "CLIP"), values=["text, watermark"], out=("CONDITIONING",)),
    item(5, "EmptyLatentImage", values=[512, 384, 1], out=("LATENT",)),
    item(3, "KSampler", socket("model", 1, "MODEL"), socket("positive", 4, "CONDITIONING"),
         socket("negative", 6, "CONDITIONING"), socket("latent_image", 2, "LATENT"),
         socket("seed", 11, "INT", widget=True),
         values=[156680208700286, "randomize", 20, 8, "euler", "normal", 1], out=("LATENT",)),
    item(8, "VAEDecode", socket("samples", 7, "LATENT"), socket("vae", 10, "VAE"), out=("IMAGE",)),
    item(9, "SaveImage", socket("images", 9, "IMAGE"), values=["ComfyUI"], out=()),
    item(10, "Reroute", socket("", 8, "*"), out=("VAE",), properties={"showOutputText": False}),
    item(11, "Note", values=["Try another seed."], out=(), pos=[0, 0]),
    item(12, "PrimitiveNode", values=[42, "fixed"], out=("INT",)),
    links=[
        [1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "CONDITIONING"],
        [5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"], [7, 3, 0, 8, 0, "LATENT"], [8, 4, 2, 10, 0, "*"],
        [9, 8, 0, 9, 0, "IMAGE"], [10, 10, 0, 8, 1, "VAE"], [11, 12, 0, 3, 4, "INT"],
    ],
    groups=[{"title": "Prompts", "bounding": [410, 150, 440, 400], "color": "#3f789e", "font_size": 24}],
    config={}, extra={"ds": {"scale": 1, "offset": [0, 0]}},
)  # fmt: skip
THE_GRAPH = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "starter.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red cube", "clip": ["4", 1]},
          "_meta": {"title": "CLIP Text Encode (Positive Prompt)"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["4", 1]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 384, "batch_size": 1}},
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 42, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1,
        "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "ComfyUI"}},
}  # fmt: skip


def test_a_whole_file_of_the_editor_becomes_a_graph() -> None:
    found = document(TEXT_TO_IMAGE)
    assert is_editor_file(TEXT_TO_IMAGE) and not is_editor_file(THE_GRAPH) and not is_editor_file(found)
    assert running(found) == THE_GRAPH
    assert found["nodes"]["10"] == {"class_type": "Reroute", "inputs": {"value": ["4", 2]}}
    assert found["nodes"]["8"]["inputs"]["vae"] == ["10", 0]
    assert found["ui"] == {
        "positions": {"4": [26, 474], "6": [415, 186]}, "groups": [{**TEXT_TO_IMAGE["groups"][0], "id": "g1"}],
        "notes": {"11": {"text": "Try another seed.", "position": [0, 0]}}, "seeds": {"3.seed": "fixed"},
        "viewport": {"x": 0, "y": 0, "zoom": 1},
    }  # fmt: skip
    assert found["requires"] == {
        "models": [{"role": "checkpoints", "name": "starter.safetensors", "sources": ["https://example.org/starter"]}]
    }


def test_a_whole_file_of_the_editor_opens_and_plans(tmp_path: Path) -> None:
    (tmp_path / "editor.json").write_text(json.dumps(TEXT_TO_IMAGE))
    with Session(Settings(home=tmp_path / "home", cache_dir=None)) as session:
        workflow = session.open(tmp_path / "editor.json").workflow
        session.check(workflow)
        assert set(session.prepare(workflow).plan.steps) == set(THE_GRAPH)
    assert running(Workflow.parse(workflow.dumps()).as_json()) == THE_GRAPH


def test_how_nodes_look_is_kept() -> None:
    look = {
        "pos": [1, 2],
        "size": {"0": 210, "1": 90},
        "flags": {"collapsed": True},
        "color": "#322",
        "bgcolor": "#533",
    }
    note = item(3, "MarkdownNote", values=["# A note"], out=(), pos=[5, 6], size=[200, 100], title="Read me")
    named = [{"id": 4, "title": "a", "bounding": [0, 0, 9, 9], "color": "#3f789e"}, {"bounding": [1, 1, 8, 8]}]
    found = document(
        file(
            item(1, "Const", **look), item(2, "Reroute", socket("", None, "*"), bgcolor="#a1b2c3", flags={}, size=7),
            note, groups=[*named, {"title": "nowhere"}, 5, {**named[0]}],
            extra={"ds": {"scale": 0.5, "offset": [-100, 30]}},
        )
    )  # fmt: skip
    assert found["ui"] == {
        "positions": {"1": [1, 2]}, "sizes": {"1": [210, 90]}, "collapsed": {"1": True},
        "colors": {"1": "#332222", "2": "#a1b2c3"},
        "notes": {"3": {"text": "# A note", "title": "Read me", "position": [5, 6], "size": [200, 100]}},
        "groups": [{**named[0], "id": "g4"}, {**named[1], "id": "g2"}, {**named[0], "id": "g4'"}],
        "viewport": {"x": -50, "y": 15, "zoom": 0.5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("control", "expected"),
    [("randomize", "random"), ("fixed", "fixed"), ("increment", "increment"), ("increment-wrap", "increment"),
     ("decrement", "decrement")],
)  # fmt: skip
def test_what_becomes_of_a_seed_is_kept(control: str, expected: str) -> None:
    sampler = item(3, "KSampler", values=[5, control, 20, 8, "euler", "normal", 1])
    strange = item(4, "Strange", socket("seed", None, widget=True), values=[3, control])
    assert document(file(sampler, strange))["ui"]["seeds"] == {"3.seed": expected, "4.seed": expected}


def test_a_primitive_tells_what_becomes_of_the_seed_it_feeds_and_of_nothing_else() -> None:
    sampler = item(3, "KSampler", socket("seed", 1, widget=True), socket("steps", 2, "INT", widget=True),
                   values=[5, "fixed", 20, 8, "euler", "normal", 1])  # fmt: skip
    links = [[1, 1, 0, 3, 4, "INT"], [2, 1, 0, 3, 5, "INT"]]
    found = document(file(item(1, "PrimitiveNode", values=[7, "increment"]), sampler, links=links))
    assert found["ui"]["seeds"] == {"3.seed": "increment"}
    linked = document(file(item(1, "Const"), sampler, links=links))
    assert "seeds" not in linked["ui"]


def test_links_may_be_objects() -> None:
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    objects = [{**dict(zip(names, link, strict=True)), "parentId": 2} for link in TEXT_TO_IMAGE["links"]]
    newer = {**TEXT_TO_IMAGE, "version": 1, "links": objects, "state": {"lastNodeId": 12}, "reroutes": []}
    assert document(newer) == document(TEXT_TO_IMAGE)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, "fixed", 9, 7.5, "euler", "normal", 0.5], (5, 9, 7.5, "euler", "normal", 0.5)),
        ([5, 9, 7.5, "euler", "normal", 0.5], (5, 9, 7.5, "euler", "normal", 0.5)),
        ([5, "fixed", 9, "fixed", 7.5, "euler", "normal", 0.5], (5, 9, 7.5, "euler", "normal", 0.5)),
        ([5, "fixed", 9], (5, 9)),
        ([5, "fixed", None, 7.5], (5, None, 7.5)),
        ([5, "fixed", 9, 7.5, "euler", "gone", 0.5], (5, 9, 7.5, "euler", "gone", 0.5)),
        ([5, "fixed", "many", 7.5, "euler", "normal", 0.5], (5, "many", 7.5, "euler", "normal", 0.5)),
        ([5, "fixed", 9, "new", 7.5, "euler", "normal"], (5, 9)),
        ([5, "fixed", 9, 7.5, "euler", "normal", 0.5, "one each", 1], (5, 9, 7.5, "euler", "normal", 0.5, "one each")),
        ([[5], {"a": 1}], ()),
        ([], ()),
    ],
)  # fmt: skip
def test_values_go_by_position_and_are_never_shifted(values: list[Any], expected: tuple[Any, ...]) -> None:
    spec = REGISTRY.specs["KSampler"]
    items = [spec.by_name[name] for name in spec.widgets]
    named = zip(spec.widgets, expected, strict=False)
    assert widget_values(values, items) == {name: value for name, value in named if value is not None}


def test_values_that_have_no_input_are_kept_beside_the_graph() -> None:
    picture = item(1, "LoadImage", values=["a.png", "image"], out=("IMAGE", "MASK"))
    assert graph(file(picture)) == {"1": {"image": "a.png"}}
    assert document(file(picture))["ui"]["widgets_values"] == {"1": ["a.png", "image"]}


def test_values_may_be_named() -> None:
    assert graph(file(item(1, "Add", values={"b": 3, "preview": {}}))) == {"1": {"b": 3}}
    assert graph(file(item(1, "Strange", values={"b": [3], "c": "x"}))) == {"1": {"b": {"__value__": [3]}, "c": "x"}}


def test_a_widget_made_a_socket_takes_its_link_and_else_its_value() -> None:
    add = item(2, "Add", socket("b", 1, widget=True), socket("a", None, widget=True), values=[4, 5])
    assert graph(file(ONE, add, links=[[1, 1, 0, 2, 0, "INT"]]))["2"] == {"a": 4, "b": ["1", 0]}


def test_reroutes_are_followed_in_chains() -> None:
    many = range(10, 3000)
    chain = [item(i, "Reroute", socket("", i, "*"), out=("*",)) for i in many]
    links = [[i, i - 1 if i > 10 else 1, 0, i, 0, "*"] for i in [*many, 3000]]
    loose = item(3, "Reroute", socket("", None, "*"))
    add = item(2, "Add", socket("a", 3000), socket("b", 1), values=[1, 2])
    found = graph(file(ONE, *chain, loose, add, links=[*links, [1, 3, 0, 2, 1, "*"]]))
    assert found == {"1": {"value": 7}, "2": {"a": ["1", 0], "b": 2}}


def test_a_long_chain_of_reroutes_that_are_all_used_is_read() -> None:
    many = range(10, 5_010)
    chain = [item(i, "Reroute", socket("", i, "*"), out=("*",)) for i in many]
    ends = [item(i + 30_000, "Echo", socket("value", i + 30_000, "*")) for i in many]
    links = [[i, i - 1 if i > 10 else 1, 0, i, 0, "*"] for i in many]
    found = graph(file(ONE, *chain, *ends, links=[*links, *([i + 30_000, i, 0, i + 30_000, 0, "*"] for i in many)]))
    assert all(found[str(i + 30_000)] == {"value": ["1", 0]} for i in many)


def test_a_literal_goes_past_a_reroute_to_where_it_can_be_edited() -> None:
    nodes = [item(1, "PrimitiveNode", values=[4]), item(2, "Reroute", socket("", 1, "*")),
             item(3, "Echo", socket("value", 2, "*", widget=True))]  # fmt: skip
    found = document(file(*nodes, links=[[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"]]))
    assert found["nodes"]["2"] == {"class_type": "Reroute", "inputs": {}}
    assert found["nodes"]["3"]["inputs"] == {"value": 4}


def test_a_primitive_gives_its_value_to_all_it_feeds() -> None:
    nodes = [item(1, "PrimitiveNode", values=[[1], "randomize"]), item(4, "PrimitiveNode"),
             item(2, "Add", socket("a", 1, widget=True), values=[0, 0]),
             item(3, "Add", socket("b", 2, widget=True), socket("a", 3, widget=True), values=[5, 0])]  # fmt: skip
    links = [[1, 1, 0, 2, 0, "INT"], [2, 1, 0, 3, 0, "INT"], [3, 4, 0, 3, 1, "INT"]]
    assert graph(file(*nodes, links=links)) == {
        "2": {"a": {"__value__": [1]}, "b": 0}, "3": {"a": 5, "b": {"__value__": [1]}}
    }  # fmt: skip


def test_a_muted_node_stays_as_such_and_what_needs_it_is_told(tmp_path: Path) -> None:
    muted = copy.deepcopy(TEXT_TO_IMAGE)
    next(node for node in muted["nodes"] if node["id"] == 5)["mode"] = 2
    found = document(muted)
    assert found["nodes"]["5"] == {**THE_GRAPH["5"], "mode": "mute"}
    assert found["nodes"]["3"]["inputs"]["latent_image"] == ["5", 0]
    assert "5" not in running(found) and "latent_image" not in running(found)["3"]["inputs"]
    with Session(Settings(home=tmp_path, cache_dir=None)) as session, pytest.raises(WorkflowError) as error:
        session.check(Workflow.of(found))
    assert str(error.value) == (
        "node 3 (KSampler) latent_image: is missing, as node 5 (EmptyLatentImage) is muted; expected a link to LATENT; "
        "unmute it, or connect another node"
    )


def test_a_bypassed_node_stays_as_such_and_is_linked_where_we_skip_it_alike() -> None:
    scale = item(2, "ImageScaleBy", socket("image", 1, "IMAGE"), values=["area", 2], out=("IMAGE",), mode=4, pos=[1, 2])
    first, end = item(1, "LoadImage", values=["a.png"], out=("IMAGE",)), item(3, "Echo", socket("value", 2, "*"))
    links = [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]
    found = document(file(first, scale, end, links=links))
    assert found["nodes"]["2"] == {
        "class_type": "ImageScaleBy", "inputs": {"upscale_method": "area", "scale_by": 2, "image": ["1", 0]},
        "mode": "skip",
    }  # fmt: skip
    assert found["nodes"]["3"]["inputs"] == {"value": ["2", 0]} and found["ui"]["positions"] == {"2": [1, 2]}
    for changed in ({"type": "Strange"}, {"inputs": [socket("mask", 1, "IMAGE")]}, {"outputs": []}):
        other = document(file(first, {**scale, **changed}, end, links=links))
        assert other["nodes"]["2"]["mode"] == "skip"
        assert other["nodes"]["3"]["inputs"] == ({} if changed == {"outputs": []} else {"value": ["1", 0]})


def test_a_widget_keeps_its_value_where_its_link_brings_nothing() -> None:
    add = item(2, "Add", socket("b", 1, widget=True), socket("a", 2, widget=True), values=[4, 5])
    nodes = [{**ONE, "mode": 2}, add, item(3, "Reroute", socket("", None, "*"))]
    found = document(file(*nodes, links=[[1, 1, 0, 2, 0, "INT"], [2, 3, 0, 2, 1, "*"]]))
    assert found["nodes"]["2"]["inputs"] == {"a": 4, "b": 5}


def test_what_is_wrong_at_a_node_that_does_not_run_is_no_matter() -> None:
    muted = item(2, "Add", socket("a", 5), values=[1, 2], mode=2)
    circle = [item(i, "Reroute", socket("", i, "*")) for i in (3, 4)]
    found = document(file(muted, *circle, links=[[3, 4, 0, 3, 0, "*"], [4, 3, 0, 4, 0, "*"]]))
    assert found["nodes"] == {
        "2": {"class_type": "Add", "inputs": {"a": 1, "b": 2}, "mode": "mute"},
        "3": {"class_type": "Reroute", "inputs": {}}, "4": {"class_type": "Reroute", "inputs": {}},
    }  # fmt: skip
    assert graph(file(item(4, A_SUBGRAPH), item("4:1", "Add", mode=2), definitions={"subgraphs": [TWICE]})) == {
        "4:1": {"a": 0, "b": 2}, "4:2": {"a": ["4:1", 0], "b": 5}
    }  # fmt: skip


KINDS = (
    "Const",
    "Add",
    "Echo",
    "Reroute",
    "ImageScaleBy",
    "VAEDecode",
    "PorterDuffImageComposite",
    "SplitImageWithAlpha",
    "Strange",
)


@st.composite
def asides(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A file of links forth alone, and what each node brings by ComfyUI's rule, told in the plainest way."""
    nodes: list[Any] = []
    links: list[Any] = []
    brings: dict[str, list[Any]] = {}
    expected: dict[str, Any] = {}
    for number in range(1, draw(st.integers(2, 12))):
        kind, mode = draw(st.sampled_from(KINDS)), draw(st.sampled_from([0, 0, 2, 4]))
        spec = REGISTRY.get(kind)
        names = (
            [(item.name, item.port) for item in spec.inputs if item.name not in spec.widgets] if spec else [("x", "*")]
        )
        names = [("", "*")] if kind == "Reroute" else draw(st.permutations(names))
        types = [output.port for output in spec.outputs] if spec else [draw(st.sampled_from(["*", "INT"]))]
        sockets, incoming = [], []
        for place, (name, port) in enumerate(names):
            source = draw(st.integers(0, number - 1))
            slot = draw(st.integers(0, max(0, len(brings.get(str(source), [])) - 1)))
            links += [[len(links) + 1, source, slot, number, place, port]] if source else []
            sockets.append(socket(name, len(links) if source else None, port))
            incoming.append(brings[str(source)][slot] if source and brings[str(source)] else None)
        nodes.append(item(number, kind, *sockets, values=[], out=types, mode=mode))
        brings[str(number)] = [
            None if mode == 2
            else incoming[0] if kind == "Reroute"
            else [str(number), slot] if mode == 0
            else _bypass(type, slot, [port for _, port in names], incoming)
            for slot, type in enumerate(types)
        ]  # fmt: skip
        if mode == 0 and kind != "Reroute":
            found = zip(names, incoming, strict=True)
            expected[str(number)] = {name: source for (name, _), source in found if source is not None}
    return file(*nodes, links=links), expected


def _bypass(type: str, slot: int, ports: list[str], incoming: list[Any]) -> Any:
    if type == "*":
        return incoming[slot if slot < len(ports) else 0] if ports else None
    if slot < len(ports) and ports[slot] == type:
        return incoming[slot]
    for wanted in (type, "*"):
        if wanted == "*" and slot < len(ports) and ports[slot] == "*":
            return incoming[slot]
        if wanted in ports:
            return incoming[ports.index(wanted)]
    return None


@settings(max_examples=200, deadline=None)
@given(asides())
def test_what_runs_is_what_comfyui_would_run(drawn: tuple[Any, dict[str, Any]]) -> None:
    editor, expected = drawn
    assert graph(editor) == expected
    assert set(document(editor)["nodes"]) == {str(node["id"]) for node in editor["nodes"]}


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        ([socket("a", 1), socket("b", 2)], "INT", ["1", 0]),
        ([socket("m", 3, "MODEL"), socket("b", 2)], "INT", ["5", 0]),
        ([socket("m", 3, "MODEL"), socket("any", 2, "*")], "INT", ["5", 0]),
        ([socket("m", 3, "MODEL")], "INT", None),
        ([socket("m", 3, "MODEL")], "*", ["6", 0]),
        ([socket("value", None, widget=True)], "INT", 9),
        ([], "INT", None),
    ],
)
def test_a_bypassed_node_passes_on_its_first_input_of_the_type(inputs: Any, output: str, expected: Any) -> None:
    bypassed = item(2, "Const", *inputs, values=[9], out=(output,), mode=4)
    nodes = [ONE, item(5, "Const"), item(6, "Const"), bypassed, item(3, "Echo", socket("value", 9, "*"))]
    links = [[1, 1, 0, 2, 0, "INT"], [2, 5, 0, 2, 1, "INT"], [3, 6, 0, 2, 0, "INT"], [9, 2, 0, 3, 0, "*"]]
    assert graph(file(*nodes, links=links))["3"] == ({} if expected is None else {"value": expected})


TWICE = subgraph(
    A_SUBGRAPH,
    item(1, "Mul", socket("a", 1), socket("b", 2, widget=True), values=[0, 2]),
    item(2, "Add", socket("a", 3), values=[0, 5]),
    links=[[1, -10, 0, 1, 0, "INT"], [2, -10, 1, 1, 1, "INT"], [3, 1, 0, 2, 0, "INT"], [4, 2, 0, -20, 0, "INT"]],
    inputs=("x", "factor"),
)


def test_a_subgraph_is_flattened() -> None:
    instance = item(4, A_SUBGRAPH, socket("factor", None, widget=True), socket("x", 1), values=[3])
    linked = item(5, A_SUBGRAPH, socket("x", 2), values=[])
    links = [[1, 1, 0, 4, 0, "INT"], [2, 4, 0, 5, 0, "INT"], [3, 5, 0, 6, 0, "INT"]]
    end = item(6, "Echo", socket("value", 3, "*"), out=("*",))
    assert graph(file(ONE, instance, linked, end, links=links, definitions={"subgraphs": [TWICE]})) == {
        "1": {"value": 7},
        "4:1": {"a": ["1", 0], "b": 3}, "4:2": {"a": ["4:1", 0], "b": 5},
        "5:1": {"a": ["4:2", 0], "b": 2}, "5:2": {"a": ["5:1", 0], "b": 5},
        "6": {"value": ["5:2", 0]},
    }  # fmt: skip


def test_a_subgraph_in_a_subgraph_is_flattened() -> None:
    inner = item(8, A_SUBGRAPH, socket("x", 1), socket("factor", None, widget=True), values=[9])
    links = [[1, -10, 0, 8, 0, "INT"], [2, 8, 0, -20, 0, "INT"], [3, -10, 0, -20, 1, "INT"]]
    around = subgraph(ANOTHER, inner, links=links, inputs=("y",))
    add = item(6, "Add", socket("a", 2), socket("b", 3, widget=True), values=[0, 0])
    nodes = [ONE, item(4, ANOTHER, socket("y", 1)), add]
    outer = [[1, 1, 0, 4, 0, "INT"], [2, 4, 0, 6, 0, "INT"], [3, 4, 1, 6, 1, "INT"]]
    assert graph(file(*nodes, links=outer, definitions={"subgraphs": [TWICE, around]})) == {
        "1": {"value": 7}, "4:8:1": {"a": ["1", 0], "b": 9}, "4:8:2": {"a": ["4:8:1", 0], "b": 5},
        "6": {"a": ["4:8:2", 0], "b": ["1", 0]},
    }  # fmt: skip


def test_a_subgraph_sets_the_widgets_it_lists() -> None:
    instance = item(
        4, A_SUBGRAPH, socket("x", None), socket("factor", None, widget=True),
        values=[6, 8, 1], properties={"proxyWidgets": [["2", "b"], ["-1", "factor"], ["2", "gone"]]},
    )  # fmt: skip
    found = graph(file(instance, definitions={"subgraphs": [TWICE]}))
    assert found == {"4:1": {"a": 0, "b": 8}, "4:2": {"a": ["4:1", 0], "b": 6}}


def test_a_muted_or_bypassed_subgraph_is_no_part_of_the_graph() -> None:
    for mode, expected in ((2, {}), (4, {"value": ["1", 0]})):
        instance = item(4, A_SUBGRAPH, socket("x", 1), mode=mode)
        end = item(6, "Echo", socket("value", 3, "*"))
        links = [[1, 1, 0, 4, 0, "INT"], [3, 4, 0, 6, 0, "INT"]]
        found = graph(file(ONE, instance, end, links=links, definitions={"subgraphs": [TWICE]}))
        assert found == {"1": {"value": 7}, "6": expected}


def test_a_node_of_an_unknown_type_keeps_all_it_has(tmp_path: Path) -> None:
    strange = item(2, "Strange", socket("model", 1, "*"), values=["a", 3, None], properties={"cnr_id": "a-pack"})
    found = document(file(ONE, strange, item(3, "Keep", socket("value", 2, "*")),
                          links=[[1, 1, 0, 2, 0, "*"], [2, 1, 0, 3, 0, "*"]]))  # fmt: skip
    assert found["nodes"]["2"] == {"class_type": "Strange", "inputs": {"model": ["1", 0]}}
    assert found["ui"] == {"widgets_values": {"2": ["a", 3, None]}, "properties": {"2": {"cnr_id": "a-pack"}}}


def test_a_node_of_an_unknown_type_has_the_names_that_the_file_gives() -> None:
    named = item(2, "Strange", socket("seed", None, "INT", widget=True), socket("text", None, "STRING", widget=True),
                 values=[3, "fixed", "hello"])  # fmt: skip
    assert document(file(named))["nodes"]["2"]["inputs"] == {"seed": 3, "text": "hello"}
    named["widgets_values"] = [3, "hello", "more"]
    assert document(file(named))["ui"]["widgets_values"] == {"2": [3, "hello", "more"]}
    assert document(file(named))["nodes"]["2"]["inputs"] == {}


def test_old_names_of_nodes_are_read() -> None:
    assert document(file(item(1, "ConditioningAverage ", values=[0.5])))["nodes"]["1"] == {
        "class_type": "ConditioningAverage", "inputs": {"conditioning_to_strength": 0.5}
    }  # fmt: skip


CIRCLE = [item(i, "Reroute", socket("", i, "*")) for i in (2, 3)]


@pytest.mark.parametrize(
    ("editor", "message"),
    [
        (file({"type": "Add"}), "node at place 0 (Add): id: Field required; open the file in ComfyUI and save"),
        (file({"id": 3}), "node 3: type: Field required"),
        (file({"id": True, "type": "Add"}), "node True (Add): id: an id is a whole number or a text"),
        (file({"id": 3, "type": "Add", "inputs": [{"link": "x", "name": 5}]}), "node 3 (Add): inputs.0.name"),
        (file({"id": 3, "type": "Add", "widgets_values": 5}), "node 3 (Add): widgets_values.list"),
        (file(7), "node at place 0: "),
        (file(links=[[1, 2]]), "workflow: links.0.origin_slot: Field required"),
        (file(ONE, ONE), "node 1 (Const): is there twice; give one of them another id"),
        (file(ONE, item("1", "Const")), "node 1 (Const): is there twice"),
        (file(links=[[1, 1, 0, 2, 0], [1, 3, 0, 2, 0]]), "node 2: link 1 is there twice, with different ends"),
        (file(item(2, "Add", socket("a", 5))),
         "node 2 (Add) a: link 5 is not among the links of the file; connect it again, or open"),
        (file(item(2, "Add", socket("a", 5)), links=[[5, 8, 0, 2, 0]]),
         "node 2 (Add) a: link 5 comes from node 8, which is not in the file"),
        (file(*CIRCLE, item(4, "Add", socket("a", 4)), links=[[2, 3, 0, 2, 0], [3, 2, 0, 3, 0], [4, 2, 0, 4, 0]]),
         "node 4 (Add) a: its links go in a circle of reroutes"),
        (file(item(2, "workflow>Mine")), "node 2 (workflow>Mine): is a group node, which is not supported; convert it"),
        (file(item(2, A_SUBGRAPH), definitions={"subgraphs": [TWICE, TWICE]}), "defines the subgraph 'Twice' twice"),
        (file(item(2, A_SUBGRAPH), item("2:1", "Add"), definitions={"subgraphs": [TWICE]}),
         "node 2:1 (Mul): has the id of a node in a subgraph"),
        (file(item(2, ANOTHER), definitions={"subgraphs": [subgraph(ANOTHER, item(5, ANOTHER), links=[])]}),
         "node 2:5: is a subgraph inside itself"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_node(editor: Any, message: str) -> None:
    assert message in what(editor)


def test_subgraphs_that_unfold_without_end_are_refused() -> None:
    ids = [f"graph {i}" for i in range(40)]
    bomb = [subgraph(a, item(1, b), item(2, b), links=[]) for a, b in pairwise(ids)]
    assert "unfold to more than" in what(file(item(1, ids[0]), definitions={"subgraphs": bomb}))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = what(file(item(2, "Add", socket("a", 5)), item(3, "Add", socket("a", 6))))
    assert [line.partition(":")[0] for line in found.splitlines()] == ["node 2 (Add) a", "node 3 (Add) a"]


NESTED = file(
    ONE, item(4, A_SUBGRAPH, socket("x", 1), socket("factor", None, widget=True), values=[3]),
    item(7, "Reroute", socket("", 2, "*")), item(8, "Add", socket("a", 3), socket("b", 3), values=[1, 2], mode=4),
    item(6, "Echo", socket("value", 4, "*")),
    links=[[1, 1, 0, 4, 0, "INT"], [2, 4, 0, 7, 0, "INT"], [3, 7, 0, 8, 0, "INT"], [4, 8, 0, 6, 0, "*"]],
    definitions={"subgraphs": [TWICE]},
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["1", "-10", "Reroute", A_SUBGRAPH, "x"])
    | st.integers(-20, 12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "name", "0", "link"]), inner),
    max_leaves=4,
)  # fmt: skip


def _mangle(value: Any, draw: Any) -> Any:
    """One place of a document, at random depth, replaced, removed or doubled."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 7)) == 0:
        return draw(JSON)
    place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    found = copy.copy(value)
    match draw(st.integers(0, 11)):
        case 0:
            del found[place]
        case 1 if isinstance(found, list):
            found.append(found[place])
        case _:
            found[place] = _mangle(found[place], draw)
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_mangled_file_is_read_or_told_and_never_crashes(data: st.DataObject) -> None:
    editor: Any = data.draw(st.sampled_from([TEXT_TO_IMAGE, NESTED]))
    for _ in range(data.draw(st.integers(1, 4))):
        editor = _mangle(editor, data.draw)
    try:
        Workflow.of(document(editor)).dumps()
    except WorkflowError as error:
        assert str(error)
