"""Copy and paste: within a tab, across windows, from other programs."""

from __future__ import annotations

import base64
import io
import json
import re

import pytest


@pytest.fixture(scope="module")
def address(serve):
    return serve()


@pytest.fixture
def context(browser):
    with browser.new_context(
        viewport={"width": 1440, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    ) as made:
        yield made


def _clipboard(page):
    return page.evaluate("() => navigator.clipboard.readText()")


def _write(page, text):
    page.evaluate("(text) => navigator.clipboard.writeText(text)", text)


def _select(canvas, *titles):
    for place, title in enumerate(titles):
        canvas.node(title).locator(".node-header").click(modifiers=["Shift"] if place else [])


def _nodes(page):
    return page.locator(".node")


def _wires(page):
    return page.locator(".react-flow__edge")


def test_what_is_copied_is_a_valid_document_and_comes_back_at_the_pointer_with_its_wires(address, window, context):
    from playwright.sync_api import expect

    canvas = window(address, context)
    page = canvas.open()
    nodes, wires = _nodes(page).count(), _wires(page).count()
    _select(canvas, "Upscale", "Save")
    page.keyboard.press("Control+c")
    page.wait_for_function("() => document.querySelector('[role=status]')")
    copied = json.loads(_clipboard(page))
    assert copied["nodegraph"] == 1
    assert sorted(node["class_type"] for node in copied["nodes"].values()) == ["ImageUpscaleWithModel", "SaveImage"]
    page.mouse.move(300, 700)
    page.keyboard.press("Control+v")
    expect(_nodes(page)).to_have_count(nodes + 2)
    expect(_wires(page)).to_have_count(wires + 1)
    left = page.locator(".react-flow__node.selected").evaluate_all(
        "(all) => Math.min(...all.map((one) => one.getBoundingClientRect().left))"
    )
    assert abs(left - 300) < 3
    page.keyboard.press("Control+z")
    expect(_nodes(page)).to_have_count(nodes)


def test_shift_keeps_the_wires_that_came_from_elsewhere(address, window, context):
    from playwright.sync_api import expect

    canvas = window(address, context)
    page = canvas.open()
    wires = _wires(page).count()
    _select(canvas, "Decode")
    page.keyboard.press("Control+c")
    page.mouse.move(300, 700)
    page.keyboard.press("Control+Shift+V")
    expect(_wires(page)).to_have_count(wires + 2)
    page.keyboard.press("Control+d")
    expect(_wires(page)).to_have_count(wires + 4)


def test_cut_takes_out_and_another_window_takes_in(address, window, context):
    from playwright.sync_api import expect

    one = window(address, context)
    page = one.open()
    nodes = _nodes(page).count()
    _select(one, "Prompt", "Negative prompt")
    page.keyboard.press("Control+x")
    expect(_nodes(page)).to_have_count(nodes - 2)
    other = window(address, context)
    there = other.open()
    before = _nodes(there).count()
    there.mouse.move(300, 700)
    there.keyboard.press("Control+v")
    expect(_nodes(there)).to_have_count(before + 2)


def test_a_field_copies_and_pastes_text_as_ever(address, window, context):
    from playwright.sync_api import expect

    canvas = window(address, context)
    page = canvas.open()
    nodes = _nodes(page).count()
    _write(page, '{"1": {"class_type": "VAEDecode", "inputs": {}}}')
    field = canvas.node("Prompt").locator("textarea")
    field.fill("")
    field.press("Control+v")
    expect(field).to_have_value('{"1": {"class_type": "VAEDecode", "inputs": {}}}')
    assert _nodes(page).count() == nodes


def test_graphs_of_comfyui_are_pasted_from_its_api_and_from_its_editor_and_so_is_what_a1111_wrote(
    address, window, context
):
    from playwright.sync_api import expect

    page = window(address, context).open()
    nodes, wires = _nodes(page).count(), _wires(page).count()
    api = {
        "8": {"class_type": "VAEDecode", "inputs": {}, "_meta": {"title": "From the API"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
    }
    _write(page, json.dumps(api))
    page.mouse.move(300, 700)
    page.keyboard.press("Control+v")
    expect(_nodes(page)).to_have_count(nodes + 2)
    expect(_wires(page)).to_have_count(wires + 1)
    editor = {
        "last_node_id": 1, "last_link_id": 0, "links": [], "groups": [], "version": 0.4,
        "nodes": [{"id": 1, "type": "EmptyLatentImage", "pos": [0, 0], "size": [300, 100], "mode": 0, "order": 0,
                   "flags": {}, "properties": {},
                   "inputs": [], "outputs": [{"name": "LATENT", "type": "LATENT", "links": []}],
                   "widgets_values": [640, 384, 1]}],
    }  # fmt: skip
    _write(page, json.dumps(editor))
    page.keyboard.press("Control+v")
    expect(_nodes(page)).to_have_count(nodes + 3)
    _write(
        page, "a red circle\nNegative prompt: blue\nSteps: 4, Sampler: Euler a, Seed: 7, Size: 64x64, Model: starter"
    )
    page.keyboard.press("Control+v")
    expect(_nodes(page)).to_have_count(nodes + 10)
    expect(page.locator(".note-text")).to_have_value(re.compile("A1111 draws noise on the graphics card"))


def test_a_picture_becomes_a_loader_and_goes_into_the_one_that_is_selected(address, window, context):
    from PIL import Image
    from playwright.sync_api import expect

    page = window(address, context).open()
    stored = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(stored, "PNG")
    paste = """([text, name]) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([bytes], name, { type: "image/png" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(paste, [base64.b64encode(stored.getvalue()).decode(), "teal.png"])
    loader = page.locator(".react-flow__node.selected .node")
    expect(loader).to_contain_text("teal.png")
    expect(page.locator('.node[aria-label="Load Image"]')).to_have_count(1)
    Image.new("RGB", (32, 24), "red").save(again := io.BytesIO(), "PNG")
    page.evaluate(paste, [base64.b64encode(again.getvalue()).decode(), "red.png"])
    expect(loader).to_contain_text("red.png")
    expect(page.locator('.node[aria-label="Load Image"]')).to_have_count(1)


def test_a_part_of_a_document_keeps_notes_groups_seeds_and_looks_under_new_ids(address, window):
    page = window(address).open()
    found = page.evaluate("""async () => {
      const { fragment, pasted } = await import("/web/graph/clipboard.js");
      const specs = { nodes: new Map(), files: {}, failures: {} };
      const doc = { nodegraph: 1, nodes: {
        1: { class_type: "A", inputs: { seed: 5 } },
        2: { class_type: "B", inputs: { a: ["1", "x"], b: ["9", 0], list: { __value__: [1, 2] } }, mode: "skip" },
        9: { class_type: "C", inputs: {} },
      }, ui: { positions: { 1: [0, 0], 2: [100, 0], 9: [50, 50] }, colors: { 2: "#aabbcc" },
        seeds: { "1.seed": "random", "9.seed": "fixed" },
        notes: { 3: { text: "hello", position: [10, 20] } },
        groups: [{ id: "group1", title: "g", bounding: [0, 0, 10, 10] }] } };
      const part = fragment(doc, ["1", "2", "3", "group1"]);
      const [twice, ids] = pasted(doc, specs, part, { shift: [7, 7], isLinkedOutside: true });
      const [alone] = pasted({ nodegraph: 1, nodes: {} }, specs, part, { isLinkedOutside: true });
      return { part, ids, nodes: twice.nodes, ui: twice.ui, alone: alone.nodes, same: twice.nodes[9] === doc.nodes[9] };
    }""")
    assert found["part"]["nodes"]["2"]["inputs"] == {"a": ["1", "x"], "list": {"__value__": [1, 2]}}
    assert found["part"]["ui"]["outside"] == {"2.b": ["9", 0]}
    assert found["ids"] == ["10", "11", "12", "group2"]
    assert found["nodes"]["11"] == {
        "class_type": "B", "inputs": {"a": ["10", "x"], "b": ["9", 0], "list": {"__value__": [1, 2]}}, "mode": "skip",
    }  # fmt: skip
    assert found["ui"]["colors"] == {"2": "#aabbcc", "11": "#aabbcc"}
    assert found["ui"]["seeds"] == {"1.seed": "random", "9.seed": "fixed", "10.seed": "random"}
    assert found["ui"]["positions"]["11"] == [107, 7]
    assert found["ui"]["notes"]["12"] == {"text": "hello", "position": [17, 27]}
    assert found["ui"]["groups"][1] == {"id": "group2", "title": "g", "bounding": [7, 7, 10, 10]}
    assert "b" not in found["alone"]["2"]["inputs"]
    assert found["same"] is True
