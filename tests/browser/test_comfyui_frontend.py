"""ComfyUI's own web frontend, as its users have it, in front of our server."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

GRAPH = json.loads((Path(__file__).parents[2] / "workflows" / "comfyui_api.json").read_text())
LISTEN = """() => {
    window.seen = {progress: 0, previews: 0, isOver: false};
    const {api} = window.comfyAPI.api;
    api.addEventListener("progress", ({detail}) => { if (detail.node === "3") window.seen.progress = detail.value; });
    api.addEventListener("b_preview_with_metadata", ({detail}) => {
        if (detail.nodeId === "3" && detail.blob.size > 0) window.seen.previews += 1;
    });
    api.addEventListener("execution_success", () => { window.seen.isOver = true; });
}"""
BOOTED = "() => window.app?.extensionManager?.workflow?.activeWorkflow && !window.app.extensionManager.spinner"
SHOW_ALL = (
    "() => { Object.assign(window.app.canvas.ds, {scale: 0.55, offset: [60, 300]}); }"  # only what is seen is drawn
)
DRAWN = "() => window.seen.isOver && window.app.graph.getNodeById(9)?.imgs?.[0]?.naturalWidth === 128"
DROP = """text => {
    const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
    const place = {dataTransfer, bubbles: true, cancelable: true, clientX: 600, clientY: 700};
    for (const type of ["dragenter", "dragover", "drop"])
        document.querySelector("#graph-canvas").dispatchEvent(new DragEvent(type, place));
}"""
ABSENT = re.compile(r"/api/userdata\?dir=|/api/userdata/(comfy\.templates\.json|workflows%2F\.index\.json)$")
"""What a new user does not have yet; ComfyUI answers 404 too."""


class Window:
    """A page with the frontend, and what our server refused it."""

    def __init__(self, page: Any, address: str, shots: Path) -> None:
        self.page, self.address, self.shots = page, address, shots
        self.wrong: list[str] = []
        page.set_default_timeout(40_000)
        page.on("response", self._look)
        self.open()

    def _look(self, response: Any) -> None:
        if response.status >= 400 and not ABSENT.search(response.url):
            self.wrong.append(f"{response.status} {response.url}")

    def open(self) -> None:
        """Opens the frontend, or opens it anew."""
        self.page.goto(self.address)
        self.page.wait_for_function(BOOTED)

    def load(self, **inputs: Any) -> None:
        """Loads the starter's workflow with some of its sampler's inputs changed."""
        graph = {**GRAPH, "3": {**GRAPH["3"], "inputs": {**GRAPH["3"]["inputs"], **inputs}}}
        self.page.evaluate("graph => window.app.loadApiJson(graph, 'starter')", graph)
        self.page.wait_for_function("() => window.app.graph.getNodeById(9)?.type === 'SaveImage'")
        self.page.evaluate(SHOW_ALL)

    def draw(self, seed: int) -> dict[str, Any]:
        """Runs the workflow as its user would, and waits until the picture is on its node -> the job."""
        self.load(seed=seed)
        self.page.evaluate(LISTEN)
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function(DRAWN)
        return json.loads(self.ask("api/jobs?status=completed"))["jobs"][0]

    def shot(self, name: str) -> None:
        """Keeps a picture of the page."""
        self.page.screenshot(path=self.shots / f"{name}.png")

    def ask(self, path: str) -> bytes:
        """What the server answers."""
        with urllib.request.urlopen(f"{self.address}{path}", timeout=20) as answer:
            return answer.read()


@pytest.fixture(scope="module")
def window(browser: Any, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    if find_spec("comfyui_frontend_package") is None:
        pytest.skip("ComfyUI's frontend is missing: pip install comfyui-frontend-package")
    address = serve("--frontend", "comfyui")
    settings = json.dumps({"Comfy.TutorialCompleted": True}).encode()  # or a dialog with templates comes first
    urllib.request.urlopen(urllib.request.Request(f"{address}api/settings", settings), timeout=20).close()
    with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
        yield Window(page, address, tmp_path_factory.mktemp("shots"))


def test_a_workflow_is_run_with_progress_previews_and_its_picture(window):
    job = window.draw(11)
    window.shot("drawn")
    assert window.page.evaluate("() => window.seen.progress") == 20
    assert window.page.evaluate("() => window.seen.previews") > 0
    assert job["preview_output"]["nodeId"] == "9"
    assert window.wrong == []


def test_a_picture_dropped_on_the_canvas_opens_its_workflow(window):
    picture = window.draw(12)["preview_output"]["filename"]
    window.page.evaluate("() => window.app.graph.clear()")
    window.page.evaluate(DROP, base64.b64encode(window.ask(f"api/view?filename={picture}")).decode())
    window.page.wait_for_function("() => window.app.graph.getNodeById(3)?.type === 'KSampler'")
    window.shot("dropped")
    widgets = window.page.evaluate("() => window.app.graph.getNodeById(3).widgets.map(w => [w.name, w.value])")
    assert dict(widgets)["steps"] == 20
    assert window.wrong == []


def test_what_is_wrong_is_shown_at_its_node(window):
    window.load(sampler_name="eulr")
    window.page.keyboard.press("Control+Enter")
    window.page.wait_for_function("() => window.app.lastNodeErrors?.['3']")
    window.shot("wrong")
    error = window.page.evaluate("() => window.app.lastNodeErrors['3'].errors[0]")
    assert (error["type"], error["extra_info"]["input_name"]) == ("value_not_in_list", "sampler_name")
    assert "did you mean 'euler'?" in error["details"]
    assert window.wrong == [f"400 {window.address}api/prompt"]
    window.wrong.clear()
    window.page.keyboard.press("Escape")


def test_settings_outlive_a_reload(window):
    with window.page.expect_response(lambda response: "/settings/" in response.url and response.status == 200):
        window.page.evaluate("() => window.app.extensionManager.setting.set('Comfy.Graph.CanvasInfo', false)")
    window.open()
    assert window.page.evaluate("() => window.app.extensionManager.setting.get('Comfy.Graph.CanvasInfo')") is False
    assert window.wrong == []
