"""The canvas: what a newcomer sees first."""

from __future__ import annotations

import re

import pytest


@pytest.fixture(scope="module")
def address(serve):
    return serve()


def test_the_first_visit_shows_a_workflow_and_one_press_of_run_gives_its_picture(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    page.get_by_role("button", name=re.compile("^Run")).click()
    picture = canvas.node("Save").locator("img.node-picture")
    expect(picture).to_be_visible(timeout=60_000)
    page.wait_for_function("() => document.querySelector('.node[aria-label=Save] img').naturalWidth === 512")
