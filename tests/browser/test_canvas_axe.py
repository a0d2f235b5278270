"""No serious fault by axe-core in any of the canvas's main states, dark and light."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

STATES = {
    "the graph": [],
    "the palette": ["Tab"],
    "the list of commands": ["Control+k"],
    "find": ["Control+f"],
    "the sheet of keys": ["?"],
    "the menu of a node": ["ArrowRight", "Shift+F10"],
}


@pytest.fixture(scope="module")
def address(serve):
    return serve()


@pytest.fixture(scope="module", params=["dark", "light"])
def theme(request):
    return request.param


def _faults(page):
    """Serious and critical violations, each with the elements that have it."""
    if find_spec("axe_playwright_python") is None:
        pytest.skip("axe-core is missing: pip install axe-playwright-python")
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("() => Promise.allSettled(document.getAnimations().map((animation) => animation.finished))")
    found = Axe().run(page).response["violations"]
    return {
        fault["id"]: [node["html"][:160] + " " + node["failureSummary"][:300] for node in fault["nodes"]]
        for fault in found
        if fault["impact"] in ("serious", "critical")
    }


@pytest.mark.parametrize("state", STATES)
def test_no_serious_fault_is_found_in(state, theme, address, window):
    canvas = window(address, color_scheme=theme, reduced_motion="reduce")
    page = canvas.open()
    for key in STATES[state]:
        page.keyboard.press(key)
        page.wait_for_function("() => document.activeElement !== document.body || document.querySelector('dialog')")
    if STATES[state]:
        page.wait_for_selector("dialog[open]")
    assert _faults(page) == {}


def test_no_serious_fault_is_found_at_the_end_of_a_wire(theme, address, window):
    page = window(address, color_scheme=theme, reduced_motion="reduce").open()
    page.locator(".port[data-handleid='out:0']").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog [role=combobox]:focus")
    assert _faults(page) == {}


def test_no_serious_fault_is_found_in_any_panel_after_a_run(theme, address, window):
    canvas = window(address, color_scheme=theme, reduced_motion="reduce")
    page = canvas.open()
    page.get_by_role("button", name=re.compile("^Run")).first.click()
    canvas.node("Save").locator("img.node-picture").wait_for(timeout=60_000)
    found: dict[str, dict[str, list[str]]] = {}
    for tab in page.locator(".dock-right [role=tab]").all():
        tab.click()
        found[tab.text_content()] = _faults(page)
    for button in page.get_by_role("navigation", name="Panels").get_by_role("button").all():
        button.click()
        page.wait_for_selector(".dock-left")
        found[button.get_attribute("aria-label")] = _faults(page)
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_no_serious_fault_is_found_on_a_phone(theme, address, window):
    canvas = window(address, color_scheme=theme, reduced_motion="reduce", viewport={"width": 390, "height": 844})
    canvas.page.goto(canvas.address)
    canvas.page.get_by_role("button", name=re.compile("^Run")).first.wait_for()
    assert _faults(canvas.page) == {}
