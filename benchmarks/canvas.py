"""Measures the canvas: what a step of a drag or pan costs, opening, a run, and the first load.

    python benchmarks/canvas.py [--nodes 100 500 2000] [--only steps running]

Starts `nodegraph serve` with a home of its own and Chromium without a window, opens graphs of nodes with 3 sockets, 5
fields and 2 outputs, and moves a real mouse. Times are of the main thread's CPU (`threadTicks`), so what else the
machine does hardly counts. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

STEPS = 40
NODES = '''
import time
from typing import Annotated, Literal, NamedTuple

from nodegraph import Context, node
from nodegraph.types import Port

Thing = Annotated[int, Port("LATENT")]


class Two(NamedTuple):
    LATENT: Thing
    INT: int


@node("Station", category="test")
def station(*, ctx: Context, main: Thing | None = None, side: Thing | None = None, far: Thing | None = None,
            seed: int = 0, steps: Annotated[int, "steps"] = 20, cfg: float = 7.0,
            sampler: Literal["euler", "heun", "dpm"] = "euler", prompt: str = "a lighthouse") -> Two:
    """Pass a number on, slowly."""
    for step in range(4):
        time.sleep(0.005)
        ctx.step(step + 1, 4)
    return Two((main or 0) + 1, seed)


@node("End", category="test", kind="sink", lane="io")
def end(*, value: Thing) -> None:
    """Take a number."""
'''


def graph_of(count: int, viewport: dict[str, float] | None, seed: int = 0) -> dict[str, Any]:
    """A workflow of `count` nodes in columns with about two wires each."""
    nodes: dict[str, Any] = {}
    positions: dict[str, list[int]] = {}
    rows = max(5, int(count**0.5 * 0.9))
    for index in range(count):
        name = str(index + 1)
        inputs: dict[str, Any] = {"seed": seed + index, "steps": 20 + index % 9}
        if index:
            inputs["main"] = [str(index), "LATENT"]
        if index > rows:
            inputs["side"] = [str(index + 1 - rows), "LATENT"]
        nodes[name] = {"class_type": "Station", "inputs": inputs}
        positions[name] = [320 * (index // rows), 340 * (index % rows)]
    nodes["end"] = {"class_type": "End", "inputs": {"value": [str(count), "LATENT"]}}
    positions["end"] = [320 * (count // rows + 1), 0]
    return {
        "nodegraph": 1,
        "nodes": nodes,
        "ui": {"positions": positions, **({"viewport": viewport} if viewport else {})},
    }


@contextmanager
def served(home: Path) -> Iterator[str]:
    """A server -> its address."""
    (home / "nodes").mkdir()
    (home / "nodes" / "station.py").write_text(NODES)
    words = ["serve", "--home", str(home), "--node-path", str(home / "nodes"), "--port", "0", "--no-browser"]
    with (home / "log").open("w") as log:
        command = [sys.executable, "-m", "nodegraph", *words, "--devices", "cpu", "--rate", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1].rstrip("/")
        finally:
            process.terminate()
            process.wait()


class Stage:
    """A page with the canvas, and the clock of its main thread."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1440, "height": 900})
        self.page.goto(url)
        self.page.wait_for_selector(".node")
        self.session: CDPSession = self.page.context.new_cdp_session(self.page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu_ms(self) -> float:
        """What the main thread has used."""
        found = self.session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in found if one["name"] == "TaskDuration") * 1000

    def open(self, document: dict[str, Any], shown: int) -> float:
        """Opens a workflow in a tab of its own -> milliseconds of the clock until its nodes are painted."""
        return self.page.evaluate(
            """async ([doc, shown]) => {
              const { app } = await import("/web/app.js");
              const begun = performance.now();
              app.openTab(doc, { name: "Bench" });
              const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
              do await painted(); while (document.querySelectorAll(".react-flow__node").length < shown);
              return performance.now() - begun;
            }""",
            [document, shown],
        )

    def moved(self, x: float, y: float, dx: float) -> float:
        """A drag from a place in 40 moves -> milliseconds of CPU a move."""
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 4, y + 4)
        self.settle()
        began = self.cpu_ms()
        for step in range(1, STEPS + 1):
            mouse.move(x + 4 + dx * step, y + 4 + step)
        self.settle()
        took = (self.cpu_ms() - began) / STEPS
        mouse.up()
        self.settle()
        return took

    def settle(self) -> None:
        """Waits until what was asked for is painted."""
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
        )

    def middle_node(self) -> tuple[float, float]:
        """Where the header of a node near the middle is."""
        return tuple(self.page.evaluate(
            """() => [...document.querySelectorAll(".node-header")].map((one) => one.getBoundingClientRect())
              .map((box) => [box.x + box.width / 2, box.y + box.height / 2])
              .map(([x, y]) => [x, y, Math.hypot(x - 560, y - 450)])
              .sort((one, other) => one[2] - other[2])[0].slice(0, 2)"""
        ))  # fmt: skip

    def gap(self) -> tuple[float, float]:
        """A place on the bare canvas."""
        return tuple(self.page.evaluate(
            """() => {
              for (let x = 300; x < 900; x += 3) for (let y = 200; y < 700; y += 3)
                if (document.elementFromPoint(x, y)?.matches(".react-flow__pane")) return [x, y];
              return [2, 2];
            }"""
        ))  # fmt: skip


def steps(browser: Browser, url: str, count: int) -> None:
    """The costs of a drag and a pan, near and from afar."""
    for name, viewport in (("near (0.8)", {"x": -900, "y": -900, "zoom": 0.8}), ("all in view", None)):
        stage = Stage(browser, url)
        opened = stage.open(graph_of(count, viewport), 10 if viewport else count)
        stage.page.wait_for_timeout(1500)  # the planner's answer, the draft
        drawn = stage.page.locator(".react-flow__node").count()
        drag = min(stage.moved(*stage.middle_node(), 3) for _ in range(2))
        pan = min(stage.moved(*stage.gap(), -3) for _ in range(2))
        print(
            f"{count:>6}  {name:<12} {drawn:>5} drawn  open {opened:7.0f} ms   drag {drag:6.1f} ms   pan {pan:6.1f} ms"
        )
        stage.page.close()


def running(browser: Browser, url: str, count: int) -> None:
    """The share of a core that a page needs while its graph runs."""
    for name, viewport in (("near (0.8)", {"x": 0, "y": 0, "zoom": 0.8}), ("all in view", None)):
        stage = Stage(browser, url)
        stage.open(graph_of(count, viewport, int(time.time()) % 100_000 * 1000), 10 if viewport else count)
        stage.page.wait_for_timeout(1500)
        stage.page.keyboard.press("Control+Enter")
        stage.page.wait_for_function("() => document.querySelectorAll('.node.is-ran, .node.is-running').length > 0")
        began, start = stage.cpu_ms(), time.perf_counter()
        stage.page.wait_for_timeout(5000)
        share = (stage.cpu_ms() - began) / (time.perf_counter() - start) / 10
        done = stage.page.locator(".node.is-ran").count()
        print(f"{count:>6}  running, {name:<12} {share:5.1f} % of a core ({done} of those in view done)")
        stage.page.keyboard.press("Control+.")
        stage.page.wait_for_timeout(1000)
        stage.page.close()


def opening(browser: Browser, url: str, count: int) -> None:
    """The time from the address of a saved workflow to its nodes on the screen."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    answer = page.request.put(
        f"{url}/v1/workflows/bench",
        data=json.dumps(graph_of(count, None)),
        headers={"Content-Type": "application/json", "If-None-Match": "*"},
    )
    assert answer.ok, answer.text()
    began = time.perf_counter()
    page.goto(f"{url}/?workflow=bench")
    page.wait_for_function(f"() => document.querySelectorAll('.react-flow__node').length >= {count}")
    print(f"{count:>6}  from its address to drawn: {1000 * (time.perf_counter() - began):.0f} ms")
    page.close()


def first_load(browser: Browser, url: str) -> None:
    """What a first visit transfers, and when it can be used."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: dict[str, float] = {}
    urls: dict[str, str] = {}
    session.on("Network.responseReceived", lambda event: urls.update({event["requestId"]: event["response"]["url"]}))
    session.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    began = time.perf_counter()
    page.goto(url)
    page.wait_for_selector(".node")
    took = time.perf_counter() - began
    later = "link[href='/web/style/later.css']"
    page.wait_for_selector("html[data-ready]", state="attached")
    modules = page.evaluate("() => [...document.querySelectorAll('link[rel=modulepreload]')].map((link) => link.href)")
    first = {url, f"{url}/", f"{url}/web/style/index.css", *modules}
    code = sum(size for key, size in sizes.items() if urls.get(key) in first)
    api = sum(size for key, size in sizes.items() if "/v1/" in urls.get(key, ""))
    total = sum(sizes.values())
    assert page.locator(later).count() == 1
    print(f"first load: {code / 1000:.0f} kB of code and style in {len(first)} files, {api / 1000:.0f} kB of the API;")
    print(f"            {total / 1000:.0f} kB in {len(sizes)} requests with what comes when the page is idle")
    print(f"            a graph is there after {1000 * took:.0f} ms")
    page.close()


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", type=int, nargs="+", default=[100, 500, 2000])
    options.add_argument(
        "--only",
        choices=["steps", "running", "opening", "load"],
        nargs="+",
        default=["load", "opening", "steps", "running"],
    )
    asked = options.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, served(Path(folder)) as url:
        args = ["--no-sandbox", "--disable-gpu"]
        with playwright.chromium.launch(executable_path=chromium, args=args) as browser:
            if "load" in asked.only:
                first_load(browser, url)
            if "opening" in asked.only:
                opening(browser, url, 500)
            for count in asked.nodes if "steps" in asked.only else []:
                steps(browser, url, count)
            if "running" in asked.only:
                running(browser, url, 500)


if __name__ == "__main__":
    main()
