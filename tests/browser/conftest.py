"""A real server in a process of its own, and a real browser in front of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30.0  # in which a server ends


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts a server with options of `nodegraph serve`, on an empty home and a free port -> its address."""
    with ExitStack() as ends:

        def start(*options: str) -> str:
            home = tmp_path_factory.mktemp("home")
            words = ["serve", "--home", str(home), "--port", "0", "--no-browser", "--devices", "cpu", *options]
            log = ends.enter_context((home / "server.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "nodegraph", *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
            ends.callback(_end, process)
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("nodegraph serves http"), first + (home / "server.log").read_text()
            return first.split()[-1]

        yield start


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, by playwright; the test is skipped where either is missing."""
    if find_spec("playwright") is None:
        pytest.skip("playwright is missing: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = str(own) if own.exists() else next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            pytest.skip("Chromium is missing: playwright install chromium, or apt-get install chromium")
        with playwright.chromium.launch(executable_path=found, args=["--no-sandbox"]) as launched:
            yield launched


class Window:
    """A page of a browser with the canvas, which may say nothing wrong.

    Attributes:
        page: Playwright's page.
        address: of the server, without a slash at its end.
        wrong: errors of scripts, and what the console was told of errors and warnings.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address.rstrip("/")
        self.wrong: list[str] = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.text} {message.location.get('url', '')}")

    def open(self, path: str = "/") -> Any:
        """Opens the canvas, and waits until a graph is drawn -> the page."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector(".node, .empty-canvas")
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page

    def empty(self) -> Any:
        """Opens the canvas and takes all out of it, with keys -> the page."""
        page = self.open()
        page.keyboard.press("Control+a")
        page.keyboard.press("Delete")
        page.wait_for_function("() => document.querySelectorAll('.node').length === 0")
        return page

    def node(self, title: str) -> Any:
        """The node with a title."""
        return self.page.locator(f'.node[aria-label="{title}"]')


@pytest.fixture
def window(browser: Any) -> Iterator[Callable[..., Window]]:
    """Opens windows of their own, each a new visitor unless it is given a context; nothing may go wrong in any."""
    windows: list[Window] = []
    with ExitStack() as ends:

        def open_window(address: str, context: Any = None, **options: Any) -> Window:
            if context is None:
                context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
                ends.callback(context.close)
            windows.append(Window(context.new_page(), address))
            return windows[-1]

        yield open_window
        assert [wrong for one in windows for wrong in one.wrong] == []


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
