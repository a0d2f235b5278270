"""The graph itself: wires, nodes, groups and notes under a real mouse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.waiting import wait_until

APP = "const { app } = await import('/web/app.js'); const { editor } = app.tab;"
GRAPH: dict[str, Any] = {
    "nodegraph": 1,
    "nodes": {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "starter.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a sphere", "clip": ["1", "CLIP"]}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {}},
        "5": {
            "class_type": "KSampler",
            "inputs": {"model": ["1", "MODEL"], "positive": ["2", "CONDITIONING"], "latent_image": ["4", "LATENT"]},
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", "LATENT"], "vae": ["1", "VAE"]}},
        "7": {"class_type": "NobodyKnows", "inputs": {"image": ["6", "IMAGE"], "strength": 2}, "extra": {"kept": True}},
        "8": {"class_type": "ImageInvert", "inputs": {}},
    },
    "ui": {
        "positions": {
            "1": [0, 0], "2": [320, 0], "4": [320, 320], "5": [700, 0], "6": [1060, 0], "7": [1640, 0],
            "8": [1060, 320],
        },
        "groups": [{"id": "group1", "title": "Text", "bounding": [300, -60, 300, 260], "color": "#3f789e"}],
        "notes": {"9": {"text": "Try 20 steps.", "title": "Reminder", "position": [0, 320], "size": [220, 120]}},
        "elsewhere": {"of another program": 1},
    },
}  # fmt: skip


class Graph:
    """The canvas with a graph, and hands to work on it."""

    def __init__(self, page: Any) -> None:
        self.page, self.mouse = page, page.mouse

    def ask(self, script: str) -> Any:
        """What a script says, with `app` and `editor` at hand."""
        return self.page.evaluate(f"async () => {{ {APP} return {script}; }}")

    @property
    def nodes(self) -> dict[str, Any]:
        return self.ask("editor.doc.nodes")

    @property
    def ui(self) -> dict[str, Any]:
        return self.ask("editor.doc.ui")

    @property
    def steps(self) -> list[str]:
        """What undo would take back, the first thing first."""
        return self.ask("editor.store.getState().past.map((step) => step.label)")

    @property
    def overlay(self) -> dict[str, Any] | None:
        return self.ask("app.store.getState().overlay")

    def wait_steps(self, *labels: str) -> None:
        """Waits until these are the steps of undo."""
        wait_until(
            self.page,
            f"async (wanted) => {{ {APP} return JSON.stringify(editor.store.getState().past.map((one) => one.label))"
            " === wanted; }",
            json.dumps(list(labels), separators=(",", ":")),
        )

    def port(self, node: str, handle: str) -> tuple[float, float]:
        """The middle of a port."""
        return self._middle(f'.port[data-nodeid="{node}"][data-handleid="{handle}"]')

    def header(self, node: str) -> tuple[float, float]:
        """A place at which a node, note or group is held."""
        return self._middle(f'.react-flow__node[data-id="{node}"] header')

    def _middle(self, selector: str) -> tuple[float, float]:
        box = self.page.locator(selector).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, drops: bool = True) -> None:
        """Presses, moves in small steps, lets go."""
        self.mouse.move(*start)
        self.mouse.down()
        self.mouse.move(start[0] + 4, start[1] + 4)
        self.mouse.move(*end, steps=8)
        if drops:
            self.mouse.up()


EMPTY = (560.0, 860.0)  # a place on the page with nothing of the graph


@pytest.fixture(scope="module")
def address(serve):
    return serve()


@pytest.fixture
def graph(address, window):
    page = window(address).open()
    page.evaluate("async (doc) => { const { app } = await import('/web/app.js'); app.openTab(doc); }", GRAPH)
    page.locator('.react-flow__node[data-id="7"]').wait_for()
    return Graph(page)


def test_a_wire_dropped_on_a_fitting_port_connects_by_name_in_one_step(graph):
    graph.drag(graph.port("2", "out:0"), graph.port("5", "in:negative"))
    graph.wait_steps("Connect")
    assert graph.nodes["5"]["inputs"]["negative"] == ["2", "CONDITIONING"]


def test_ports_that_do_not_fit_fade_while_a_wire_is_dragged_and_fields_that_fit_show(graph):
    from playwright.sync_api import expect

    graph.drag(graph.port("4", "out:0"), EMPTY, drops=False)
    port = '.port[data-nodeid="5"][data-handleid="in:{}"]'
    expect(graph.page.locator(port.format("latent_image"))).to_have_attribute("data-fit", "yes")
    expect(graph.page.locator(port.format("model"))).to_have_css("opacity", "0.18")
    graph.page.keyboard.press("Escape")
    graph.mouse.up()
    expect(graph.page.locator("[data-fit]")).to_have_count(0)
    assert graph.steps == [] and graph.overlay is None


def test_a_wire_that_does_not_fit_is_refused_with_the_reason(graph):
    from playwright.sync_api import expect

    graph.drag(graph.port("4", "out:0"), graph.port("5", "in:model"))
    expect(graph.page.locator(".toast")).to_have_text("LATENT does not fit MODEL.")
    assert graph.steps == []


def test_a_wire_dropped_on_a_node_takes_its_one_fitting_input(graph):
    x, y = graph.header("8")
    graph.drag(graph.port("6", "out:0"), (x, y))
    graph.wait_steps("Connect")
    assert graph.nodes["8"]["inputs"] == {"image": ["6", "IMAGE"]}


def test_a_node_whose_fitting_inputs_are_taken_keeps_its_wires(graph):
    from playwright.sync_api import expect

    graph.drag(graph.port("4", "out:0"), graph.header("6"))
    expect(graph.page.locator(".toast")).to_contain_text("taken")
    assert graph.nodes["6"]["inputs"]["samples"] == ["5", "LATENT"]


def test_a_wire_dropped_on_the_bare_canvas_asks_for_nodes_that_fit(graph):
    graph.drag(graph.port("5", "out:0"), EMPTY)
    shown = graph.overlay
    assert shown is not None and shown["kind"] == "palette"
    assert shown["from"] == {"node": "5", "place": 0} and shown["to"] is None


def test_a_taken_wire_moves_to_another_input_and_is_cut_on_the_bare_canvas(graph):
    graph.drag(graph.port("5", "in:positive"), graph.port("5", "in:negative"))
    graph.wait_steps("Move a wire")
    assert "positive" not in graph.nodes["5"]["inputs"]
    assert graph.nodes["5"]["inputs"]["negative"] == ["2", "CONDITIONING"]
    graph.drag(graph.port("5", "in:negative"), EMPTY)
    graph.wait_steps("Move a wire", "Cut a wire")
    assert "negative" not in graph.nodes["5"]["inputs"]
    graph.page.keyboard.press("Control+z")
    graph.wait_steps("Move a wire")


def test_escape_gives_a_taken_wire_back(graph):
    graph.drag(graph.port("6", "in:vae"), EMPTY, drops=False)
    graph.page.keyboard.press("Escape")
    graph.mouse.up()
    assert graph.nodes["6"]["inputs"]["vae"] == ["1", "VAE"] and graph.steps == []


def test_a_node_dropped_on_a_wire_is_let_in_and_ctrl_delete_joins_the_wire_again(graph):
    from playwright.sync_api import expect

    (ax, ay), (bx, by) = graph.port("6", "out:0"), graph.port("7", "in:image")
    box = graph.page.locator('.react-flow__node[data-id="8"]').bounding_box()
    x, y = graph.header("8")
    there = ((ax + bx) / 2 + x - box["x"] - box["width"] / 2, (ay + by) / 2 + y - box["y"] - box["height"] / 2)
    graph.drag((x, y), (there[0] + 4, there[1] + 4), drops=False)
    expect(graph.page.locator('.react-flow__edge[data-mark="target"]')).to_have_attribute("data-id", "7.image")
    graph.mouse.up()
    graph.wait_steps("Insert on a wire")
    assert graph.nodes["8"]["inputs"] == {"image": ["6", "IMAGE"]}
    assert graph.nodes["7"]["inputs"]["image"] == ["8", "IMAGE"]
    graph.page.keyboard.press("Control+Delete")
    graph.wait_steps("Insert on a wire", "Delete and join")
    assert graph.nodes["7"]["inputs"]["image"] == ["6", "IMAGE"] and "8" not in graph.nodes


def test_delete_cuts_the_wires_of_a_node(graph):
    graph.mouse.click(*graph.header("6"))
    graph.page.keyboard.press("Delete")
    graph.wait_steps("Delete")
    assert "6" not in graph.nodes and graph.nodes["7"]["inputs"] == {"strength": 2}


def test_a_double_click_on_a_wire_adds_a_reroute_that_moves_and_whose_end_heals_the_wire(graph):
    (ax, ay), (bx, by) = graph.port("4", "out:0"), graph.port("5", "in:latent_image")
    graph.mouse.dblclick((ax + bx) / 2, (ay + by) / 2)
    graph.wait_steps("Add a reroute")
    (reroute,) = [id for id, node in graph.nodes.items() if node["class_type"] == "Reroute"]
    assert graph.nodes[reroute]["inputs"] == {"value": ["4", "LATENT"]}
    assert graph.nodes["5"]["inputs"]["latent_image"][0] == reroute
    before = graph.ui["positions"][reroute]
    x, y = graph._middle(f'.react-flow__node[data-id="{reroute}"]')
    graph.drag((x, y), (x, y + 60))
    graph.wait_steps("Add a reroute", "Move")
    assert graph.ui["positions"][reroute][1] > before[1]
    graph.page.keyboard.press("Delete")
    graph.wait_steps("Add a reroute", "Move", "Delete")
    assert graph.nodes["5"]["inputs"]["latent_image"] == ["4", "LATENT"]


def test_alt_drag_leaves_the_node_and_makes_a_copy_with_its_wires(graph):
    x, y = graph.header("5")
    graph.page.keyboard.down("Alt")
    graph.drag((x, y), (x, y + 300))
    graph.page.keyboard.up("Alt")
    graph.wait_steps("Duplicate")
    assert graph.ui["positions"]["5"] == [700, 0]
    (copy,) = set(graph.nodes) - set(GRAPH["nodes"])
    assert graph.nodes[copy] == GRAPH["nodes"]["5"]
    assert graph.ui["positions"][copy][1] > 100
    assert graph.ask("editor.chosen") == [copy]


def test_a_group_takes_along_what_lies_in_it_as_one_step(graph):
    x, y = graph.header("group1")
    graph.drag((x - 30, y), (x - 30, y + 90))
    graph.wait_steps("Move")
    moved = graph.ui
    left, top, *size = moved["groups"][0]["bounding"]
    assert top > -40 and size == [300, 260] and moved["positions"]["5"] == [700, 0]
    assert moved["positions"]["2"] == [320 + left - 300, top + 60]
    graph.page.keyboard.press("Control+z")
    graph.wait_steps()
    assert graph.ui["positions"] == GRAPH["ui"]["positions"] and graph.ui["groups"] == GRAPH["ui"]["groups"]


def test_a_box_with_shift_selects_clicks_add_and_remove_and_a_burst_of_arrows_is_one_step(graph):
    chosen = "[...editor.store.getState().selection].filter((id) => !id.includes('.')).sort()"
    x, y = graph.header("9")
    right, below = graph.header("4")
    graph.page.keyboard.down("Shift")
    graph.drag((x - 80, y - 30), (right + 90, below + 100))
    graph.page.keyboard.up("Shift")
    assert graph.ask(chosen) == ["4", "9"]
    for key, expected in (("Shift", ["4", "5", "9"]), ("Control", ["4", "9"])):
        graph.page.keyboard.down(key)
        graph.mouse.click(*graph.header("5"))
        graph.page.keyboard.up(key)
        assert graph.ask(chosen) == expected
    for _ in range(3):
        graph.page.keyboard.press("ArrowRight")
    graph.wait_steps("Move")
    assert graph.ui["positions"]["4"] == [380, 320] and graph.ui["notes"]["9"]["position"] == [60, 320]


def test_layout_is_one_step_and_keeps_groups_around_their_nodes(graph):
    graph.mouse.click(*EMPTY)
    graph.page.keyboard.press("l")
    graph.wait_steps("Lay out")
    ui = graph.ui
    assert ui["positions"]["1"][0] < ui["positions"]["2"][0] < ui["positions"]["5"][0] < ui["positions"]["6"][0]
    left, top, width, height = ui["groups"][0]["bounding"]
    x, y = ui["positions"]["2"]
    assert left < x < left + width and top < y < top + height
    graph.page.keyboard.press("Control+z")
    graph.wait_steps()
    assert graph.ui["positions"] == GRAPH["ui"]["positions"]


def test_nodes_align_at_their_left(graph):
    graph.page.evaluate(f"async () => {{ {APP} editor.select(['5', '6', '8']); }}")
    graph.page.locator(".react-flow").focus()
    graph.page.keyboard.press("Alt+ArrowLeft")
    graph.wait_steps("Align left")
    assert [graph.ui["positions"][id] for id in "568"] == [[700, 0], [700, 0], [700, 320]]


def test_titles_are_renamed_in_their_place_and_widths_dragged(graph):
    graph.mouse.dblclick(*graph._middle('[data-title="6"]'))
    graph.page.keyboard.type("Look")
    graph.page.keyboard.press("Enter")
    graph.wait_steps("Rename")
    assert graph.nodes["6"]["_meta"] == {"title": "Look"}
    box = graph.page.locator('.react-flow__node[data-id="6"]').bounding_box()
    rim = (box["x"] + box["width"] + 2, box["y"] + box["height"] - 6)
    graph.drag(rim, (rim[0] + 60, rim[1]))
    graph.wait_steps("Rename", "Resize")
    assert graph.ui["sizes"]["6"][0] > 300


def test_a_note_is_written_and_its_typing_is_one_step(graph):
    text = graph.page.get_by_role("textbox", name="text of the note")
    text.fill("")
    text.press_sequentially("Use seed 7")
    text.blur()
    assert graph.ui["notes"]["9"]["text"] == "Use seed 7"
    assert len(graph.steps) == 1


def test_a_node_of_an_unknown_type_is_drawn_and_saved_as_it_was(graph):
    from playwright.sync_api import expect

    unknown = graph.page.locator('.node.is-unknown[aria-label="NobodyKnows"]')
    expect(unknown).to_be_visible()
    expect(unknown.get_by_role("button", name="input image, *")).to_be_visible()
    graph.drag(graph.header("7"), EMPTY)
    graph.wait_steps("Move")
    assert graph.nodes["7"] == GRAPH["nodes"]["7"] and graph.ui["elsewhere"] == GRAPH["ui"]["elsewhere"]


def test_the_right_button_asks_for_the_menu_of_what_is_there(graph):
    graph.mouse.click(*graph.header("5"), button="right")
    shown = graph.overlay
    assert shown is not None and shown["kind"] == "menu" and shown["target"] == {"kind": "node", "id": "5"}


def test_enter_on_a_port_asks_for_what_fits_it(graph):
    graph.page.locator('.port[data-nodeid="5"][data-handleid="in:negative"]').focus()
    graph.page.keyboard.press("Enter")
    shown = graph.overlay
    assert shown is not None and shown["kind"] == "palette" and shown["to"] == {"node": "5", "input": "negative"}
