"""The form of a workflow: filled in, made by dragging fields of nodes into it, and alone on a page of its own."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import pytest

RUN = re.compile("^Run")
DOCUMENT = "async () => (await import('/web/app.js')).app.tab.editor.doc"


@pytest.fixture(scope="module")
def address(serve: Any) -> str:
    return serve()


def put(address: str, name: str, document: dict[str, Any]) -> None:
    """Saves a new workflow in the library."""
    body = json.dumps(document).encode()
    headers = {"Content-Type": "application/json", "If-None-Match": "*"}
    urllib.request.urlopen(urllib.request.Request(f"{address}/v1/workflows/{name}", body, headers, method="PUT"))


def document(page: Any) -> dict[str, Any]:
    return page.evaluate(DOCUMENT)


def open_form(window: Any, address: str) -> tuple[Any, Any]:
    canvas = window(address)
    page = canvas.open()
    page.get_by_role("tab", name="Form").click()
    page.get_by_role("textbox", name="Prompt", exact=True).first.wait_for()
    return canvas, page


def test_the_form_instead_of_the_graph_sets_its_nodes_and_shows_the_picture(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    page.get_by_role("group", name="View").get_by_role("button", name="Form").click()
    form = page.get_by_role("form", name="Text to image")
    form.get_by_role("textbox", name="Prompt", exact=True).fill("a large blue cube on a white background")
    form.get_by_role("button", name=RUN).click()
    picture = page.get_by_role("region", name="Results").locator("figure img")
    expect(picture).to_be_visible(timeout=60_000)
    assert document(page)["nodes"]["6"]["inputs"]["text"] == "a large blue cube on a white background"
    page.get_by_role("group", name="View").get_by_role("button", name="Graph").click()
    expect(canvas.node("Prompt").locator("textarea")).to_have_value("a large blue cube on a white background")


def test_a_field_that_is_dragged_into_the_form_is_declared_where_it_is_dropped(address, window):
    canvas, page = open_form(window, address)
    grip = canvas.node("Sampler").get_by_role("button", name="denoise in the form")
    grip.drag_to(page.locator('.form-row[data-name="seed"]'), target_position={"x": 60, "y": 8})
    page.locator('.form-row[data-name="denoise"]').wait_for()
    found = document(page)
    assert found["inputs"]["denoise"] == {"bind": ["3.denoise"]}
    order = found["ui"]["form"]["order"]
    assert order.index("denoise") + 1 == order.index("seed")
    page.locator(".react-flow__pane").click(position={"x": 20, "y": 20})
    page.keyboard.press("Control+z")
    page.locator('.form-row[data-name="denoise"]').wait_for(state="detached")
    assert "denoise" not in document(page)["inputs"]


def test_the_form_is_arranged_by_buttons_and_names_are_free(address, window):
    _, page = open_form(window, address)
    page.get_by_role("button", name="move Steps up").click()
    names = page.locator(".form-row").evaluate_all("rows => rows.map(row => row.dataset.name)")
    assert names.index("steps") + 1 == names.index("seed")
    page.get_by_role("button", name="settings of Cfg").click()
    name = page.locator('.form-row[data-name="cfg"]').get_by_label("Name")
    name.fill("guidance")
    name.press("Tab")
    page.locator('.form-row[data-name="guidance"]').wait_for()
    page.get_by_role("button", name="take Negative out of the form").click()
    inputs = document(page)["inputs"]
    assert inputs["guidance"] == {"bind": ["3.cfg"]} and not {"cfg", "negative"} & set(inputs)


def test_the_page_of_a_form_alone_runs_it_and_shows_no_graph(address, window):
    from playwright.sync_api import expect

    canvas = window(address, viewport={"width": 390, "height": 800})
    canvas.page.goto(f"{address.rstrip('/')}/form/text_to_image")
    page = canvas.page
    form = page.get_by_role("form", name="Text to image")
    form.get_by_role("textbox", name="Prompt", exact=True).fill("a small green star on a black background")
    form.get_by_role("button", name=RUN).click()
    expect(page.get_by_role("region", name="Results").locator("figure img")).to_be_visible(timeout=60_000)
    assert page.locator(".react-flow").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_a_value_that_cannot_be_is_told_at_its_field(address, window):
    from playwright.sync_api import expect

    shipped = json.load(urllib.request.urlopen(f"{address.rstrip('/')}/v1/workflows/text_to_image"))
    shipped["nodes"]["3"]["inputs"]["sampler_name"] = "eulr"
    put(address.rstrip("/"), "misspelt", shipped)
    page = window(address).page
    page.goto(f"{address.rstrip('/')}/form/misspelt")
    expect(page.locator('.form-row[data-name="sampler"]')).to_contain_text("euler")


def test_a_declared_input_is_what_the_function_takes(address, window):
    _, page = open_form(window, address)
    page.get_by_label("add a field").select_option("3.denoise")
    page.locator('.form-row[data-name="denoise"]').wait_for()
    made = document(page)
    put(address.rstrip("/"), "mine", made)
    schema = json.load(urllib.request.urlopen(f"{address.rstrip('/')}/v1/workflows/mine/schema"))
    assert schema["inputs"]["properties"]["denoise"]["maximum"] == 1
