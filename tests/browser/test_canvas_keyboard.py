"""The canvas without a mouse."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

_HAS_FOCUS = """(words) => {
  const node = document.activeElement;
  const fields = [...node.querySelectorAll("textarea, input")].map((field) => field.value);
  return node.matches(".react-flow__node") && [node.textContent, ...fields].join(" ").toLowerCase().includes(words);
}"""


@pytest.fixture(scope="module")
def address(serve):
    return serve()


def _focused(page):
    return page.evaluate("() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.className")


def _choose(page, words):
    """Writes into the palette and takes the first that fits."""
    page.wait_for_selector("dialog [role=combobox]:focus")
    page.keyboard.type(words)
    page.wait_for_selector("dialog [role=option][aria-selected=true]")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog", state="detached")


def _node(page, words):
    """Gives the focus to the first node that find finds; until then another one may have it."""
    page.keyboard.press("Control+f")
    _choose(page, words)
    page.wait_for_function(_HAS_FOCUS, arg=words.lower())


def _from_port(page, node, port, words):
    """Adds a node at the end of a port's wire, or draws the wire to a port of the graph."""
    _node(page, node)
    _reach(page, port)
    page.keyboard.press("Enter")
    _choose(page, words)


def _reach(page, label):
    """Into the node that has the focus, and on with Shift+Tab and Tab to one of its ports."""
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.activeElement.matches('.react-flow__node')")
    for key in ("Shift+Tab", "Tab"):
        for _ in range(30):
            if _focused(page) == label:
                return
            page.keyboard.press(key)
            if page.evaluate("() => document.activeElement.matches('.react-flow__node')"):
                break
        page.keyboard.press("Enter")
    raise AssertionError(f"{label} was not reached")


def _set(page, node, name, value):
    """Writes a number into a field of a node."""
    _node(page, node)
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.activeElement.matches('.react-flow__node')")
    for _ in range(20):
        if page.evaluate("() => document.activeElement.labels?.[0]?.textContent") == name:
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type(value)
    page.keyboard.press("Enter")
    page.wait_for_function("(value) => document.activeElement.ariaValueNow === value", arg=value)


def test_a_graph_from_text_to_image_is_made_and_run_by_keys_alone(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.empty()
    page.keyboard.press("Tab")
    _choose(page, "load checkpoint")
    page.wait_for_selector(".react-flow__node:focus")
    _from_port(page, "load checkpoint", "output CLIP, CLIP", "CLIP Text Encode (Prompt)")
    page.wait_for_selector(".react-flow__node:focus")
    page.keyboard.press("Enter")
    page.keyboard.type("a lighthouse")
    page.keyboard.press("Escape")
    expect(page.locator(".react-flow__node:focus")).to_have_count(1)
    _from_port(page, "lighthouse", "output CONDITIONING, CONDITIONING", "KSampler")
    _from_port(page, "KSampler", "input negative, CONDITIONING", "CLIP Text Encode (Prompt)")
    _from_port(page, "KSampler", "input model, MODEL", "Load Checkpoint · MODEL")
    _from_port(page, "KSampler", "input latent_image, LATENT", "Empty Latent Image")
    _from_port(page, "KSampler", "output LATENT, LATENT", "VAE Decode")
    _from_port(page, "VAE Decode", "input vae, VAE", "Load Checkpoint · VAE")
    _from_port(page, "VAE Decode", "output IMAGE, IMAGE", "Save Image")
    page.wait_for_selector(".react-flow__node:focus")
    expect(page.locator(".node")).to_have_count(6)
    expect(page.locator(".react-flow__edge")).to_have_count(8)
    _set(page, "Empty Latent Image", "width", "128")
    _set(page, "Empty Latent Image", "height", "128")
    _set(page, "KSampler", "steps", "2")
    page.keyboard.press("Control+Enter")
    expect(canvas.node("Save Image").locator("img.node-picture")).to_be_visible(timeout=60_000)
    page.wait_for_function("() => document.querySelector('.node[aria-label=\"Save Image\"] img').naturalWidth === 128")


def test_tab_goes_through_the_nodes_as_they_are_read_and_on_to_the_panels(address, window):
    page = window(address).open()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".react-flow__node:focus")
    seen = []
    while page.evaluate("() => document.activeElement.matches('.react-flow__node')"):
        seen.append(page.evaluate("() => document.activeElement.getBoundingClientRect().left"))
        before = page.evaluate("() => document.activeElement.dataset.id")
        page.keyboard.press("Tab")
        page.wait_for_function("(id) => document.activeElement.dataset.id !== id", arg=before)
    assert len(seen) == page.locator(".react-flow__node").count()
    assert all(one <= other + 200 for one, other in pairwise(seen))
    assert page.evaluate("() => document.activeElement.closest('.react-flow') === null")


def test_escape_leaves_a_field_for_its_node_and_the_node_for_the_canvas(address, window):
    page = window(address).open()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".react-flow__node:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector(".node :focus")
    page.keyboard.press("Escape")
    page.wait_for_selector(".react-flow__node:focus")
    page.keyboard.press("Escape")
    page.wait_for_selector(".react-flow:focus")
    page.keyboard.press("Tab")
    page.wait_for_selector("dialog [role=combobox]:focus")
    page.keyboard.press("Escape")
    page.wait_for_selector(".react-flow:focus")


def test_delete_on_an_input_cuts_its_wire_and_undo_draws_it_again(address, window):
    from playwright.sync_api import expect

    page = window(address).open()
    wires = page.locator(".react-flow__edge")
    number = wires.count()
    port = page.locator(".port[data-handleid='in:samples']")
    port.focus()
    page.keyboard.press("Delete")
    expect(wires).to_have_count(number - 1)
    expect(page.get_by_role("status").filter(has_text="Cut the wire of samples.")).to_have_count(1)
    page.keyboard.press("Control+z")
    expect(wires).to_have_count(number)


def test_the_sheet_of_keys_and_the_list_of_commands_come_from_one_table(address, window):
    from playwright.sync_api import expect

    page = window(address).open()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet.get_by_text("Add a node")).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    page.keyboard.press("Control+k")
    _choose(page, "select all")
    expect(page.locator(".node.is-selected")).to_have_count(page.locator(".node").count())


def test_find_shows_a_node_by_its_value_and_gives_it_the_focus(address, window):
    page = window(address).open()
    page.get_by_role("button", name=re.compile("^Find")).click()
    page.keyboard.type("starter.safetensors")
    page.keyboard.press("Enter")
    page.wait_for_selector(".react-flow__node:focus .node")
    shown = """() => document.activeElement.textContent
      + [...document.activeElement.querySelectorAll("select, input")].map((one) => one.value).join()"""
    assert "starter" in page.evaluate(shown)


def test_f6_goes_from_the_bar_to_the_canvas_and_the_panels(address, window):
    page = window(address).open()
    page.keyboard.press("F6")
    places = []
    for _ in range(3):
        places.append(
            page.evaluate("() => document.activeElement.closest('.top-bar, .react-flow, .dock')?.classList[0]")
        )
        page.keyboard.press("F6")
    assert sorted(places) == ["dock", "react-flow", "top-bar"]
