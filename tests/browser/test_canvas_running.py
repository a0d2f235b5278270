"""The canvas: runs, as they wait, run and end, whatever becomes of the server and the page meanwhile."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from itertools import count
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

LIBRARY = Path(__file__).parents[2] / "workflows"
SEEDS = count(100)
WRONG = {
    "1": {"class_type": "PrimitiveString", "inputs": {"value": "("}, "_meta": {"title": "Pattern"}},
    "2": {
        "class_type": "RegexExtract", "_meta": {"title": "Extract"},
        "inputs": {
            "string": "abc", "regex_pattern": ["1", 0], "mode": "First Match", "case_insensitive": True,
            "multiline": False, "dotall": False, "group_index": 1,
        },
    },
    "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}, "_meta": {"title": "Found"}},
    "4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}, "_meta": {"title": "Seen"}},
}  # fmt: skip

PLACES = {"1": [0, 0], "2": [300, 0], "3": [600, 0], "4": [600, 300]}


@pytest.fixture(scope="module")
def address(serve):
    return serve().rstrip("/")


@pytest.fixture
def moving(address):
    """Has the queue move again, however the test ends."""
    yield
    ask(address, "POST", "/v1/queue/resume")


def ask(address, method, path, body=None, **headers):
    """What the server answers, as JSON."""
    sent = None if body is None else json.dumps(body).encode()
    request = Request(address + path, sent, {"Content-Type": "application/json", **headers}, method=method)
    with urlopen(request) as answer:
        return json.load(answer)


def open_picture(canvas, *, steps, batch=1):
    """Opens text to image with a seed that no other test has -> the page."""
    document = json.loads((LIBRARY / "text_to_image.json").read_text())
    name = f"picture {next(SEEDS)}"
    document |= {"name": name}
    document["nodes"]["3"]["inputs"] |= {"steps": steps, "seed": next(SEEDS)}
    document["nodes"]["5"]["inputs"] |= {"batch_size": batch}
    return open_document(canvas, document)


def open_document(canvas, document):
    """Saves a document in the library and opens it from there -> the page."""
    name = document["name"]
    ask(canvas.address, "PUT", f"/v1/workflows/{name.replace(' ', '%20')}", document, **{"If-None-Match": "*"})
    page = canvas.open(f"/?workflow={name.replace(' ', '%20')}")
    page.wait_for_function("(name) => document.title.startsWith(name)", arg=name)
    return page


def put(canvas, node, field, value):
    """Types a value into a field of a node."""
    typed = canvas.node(node).locator(f'[data-input="{field}"] input')
    typed.fill(value)
    typed.press("Enter")


def press_run(page):
    page.get_by_role("button", name=re.compile("^Run( on change)? Ctrl")).click()


def status(canvas, node):
    return canvas.node(node).locator(".node-status").first


def picture(canvas, node):
    """The picture of the last run at a node."""
    return canvas.node(node).locator(".node-results:not(.is-old) img.node-picture:not(.is-preview)")


def turns(address):
    """Ids of the runs that wait, the next one first."""
    return [run["id"] for run in ask(address, "GET", "/v1/runs?order=turn&status=queued")["runs"]]


def test_a_run_shows_its_progress_its_previews_and_its_picture(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=160)
    press_run(page)
    preview = canvas.node("Sampler").get_by_role("img", name="preview", exact=True)
    expect(preview).to_be_visible(timeout=60_000)
    page.wait_for_function("() => document.querySelector('.node-picture.is-preview').naturalWidth > 0")
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r"^\d+ / 160( · .+)?$"))
    expect(page).to_have_title(re.compile(r"^\d+% · picture"))
    card = page.locator(".card.is-running")
    expect(card).to_contain_text("Sampler")
    expect(card.get_by_role("img", name="preview")).to_be_visible()
    expect(page.get_by_role("tab", name="Queue 1 run or wait")).to_be_visible()
    expect(picture(canvas, "Save")).to_be_visible(timeout=60_000)
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r" s$"))
    expect(page).to_have_title(re.compile(r"^picture \d+ · nodegraph$"))
    expect(page.locator(".card.is-success").first).to_contain_text("Done in")


def test_what_was_cached_is_told_from_what_ran_and_why_it_ran(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=2)
    press_run(page)
    expect(picture(canvas, "Save")).to_be_visible(timeout=60_000)
    put(canvas, "Sampler", "steps", "3")
    press_run(page)
    expect(status(canvas, "Prompt")).to_have_text("cached", timeout=60_000)
    expect(status(canvas, "Save")).to_have_text(re.compile(r"\d m?s$"))
    told = page.get_by_text("Why it ran: steps changed from 2 to 3.")
    expect(told).to_be_hidden()
    status(canvas, "Sampler").hover()
    expect(told).to_be_visible()
    page.mouse.move(5, 500)
    expect(told).to_be_hidden()
    page.keyboard.press("Shift")  # from here on the focus is one of the keyboard
    status(canvas, "Sampler").focus()
    expect(told).to_be_visible()
    expect(status(canvas, "Sampler")).to_have_accessible_description(
        re.compile("steps changed from 2 to 3.*It took .* and made")
    )
    expect(status(canvas, "Decode")).to_have_accessible_description(re.compile("changed upstream \\(Sampler\\)"))


def test_several_pictures_of_a_node_are_a_grid(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=2, batch=3)
    press_run(page)
    expect(picture(canvas, "Save")).to_have_count(3, timeout=60_000)
    first, second = (picture(canvas, "Save").nth(place).bounding_box() for place in (0, 1))
    assert first["y"] == second["y"] and first["x"] < second["x"]


def test_waiting_runs_are_moved_cancelled_and_cleared_and_what_is_over_runs_again(address, window, moving):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=2)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Ways to run").click()
    page.get_by_label("how often").fill("4")
    page.get_by_label("how often").press("Enter")
    cards = page.locator(".card.is-queued")
    expect(cards).to_have_count(4)
    first, second, third, fourth = turns(address)

    def expect_order(*runs):
        for place, run in enumerate(runs):
            expect(cards.nth(place)).to_have_attribute("data-run", run)
        assert turns(address) == list(runs)

    cards.nth(2).get_by_role("button", name=re.compile("up$")).click()
    expect_order(first, third, second, fourth)
    cards.nth(3).get_by_role("button", name=re.compile("in front$")).click()
    expect_order(fourth, first, third, second)
    cards.nth(0).drag_to(cards.nth(3))
    expect_order(first, third, second, fourth)
    cards.nth(0).get_by_role("button", name=re.compile("^Cancel")).click()
    expect(cards).to_have_count(3)
    expect_order(third, second, fourth)
    expect(page.locator(".card.is-cancelled").first).to_contain_text("Cancelled")
    page.get_by_role("button", name="Clear waiting").click()
    expect(cards).to_have_count(0)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("The queue is paused")).to_have_count(0)
    assert ask(address, "GET", f"/v1/runs/{first}")["status"] == "cancelled"
    page.locator(".card.is-cancelled").first.get_by_role("button", name=re.compile("^Retry")).click()
    expect(picture(canvas, "Save")).to_be_visible(timeout=60_000)


def test_a_run_to_a_node_shows_its_picture_there_and_its_workflow_opens_as_it_was(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=2)
    canvas.node("Decode").locator(".node-header").click()
    page.get_by_role("button", name="Ways to run").click()
    page.get_by_role("button", name="Run to Decode").click()
    expect(picture(canvas, "Decode")).to_be_visible(timeout=60_000)
    page.wait_for_function("() => document.querySelector('.node[aria-label=Decode] img').naturalWidth === 128")
    expect(canvas.node("Save").locator(".node-status")).to_have_count(0)
    page.locator(".card.is-success").first.get_by_role("button", name=re.compile("^Open the workflow")).click()
    expect(page.locator(".tab")).to_have_count(2)
    expect(canvas.node("Save")).to_be_visible()
    expect(page.locator(".node")).to_have_count(9)


def test_changes_run_by_themselves_once_that_is_asked_for(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=2)
    name = page.title().split(" · ")[0].replace(" ", "%20")
    page.get_by_role("button", name="Ways to run").click()
    page.get_by_role("switch", name="Run on change").click()
    expect(page.get_by_role("button", name=re.compile("^Run on change"))).to_be_visible()
    put(canvas, "Sampler", "steps", "4")
    expect(picture(canvas, "Save")).to_be_visible(timeout=60_000)
    runs = ask(address, "GET", f"/v1/runs?workflow={name}")["runs"]
    assert len(runs) == 1
    document = ask(address, "GET", f"/v1/runs/{runs[0]['id']}/workflow")
    assert document["nodes"]["3"]["inputs"]["steps"] == 4


def test_a_workflow_with_problems_is_not_run_and_the_way_to_them_is_short(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=2)
    before = ask(address, "GET", "/v1/runs?limit=1")["total"]
    canvas.node("Size").locator(".node-header").click()
    page.keyboard.press("Delete")
    expect(canvas.node("Size")).to_have_count(0)
    problems = page.get_by_role("button", name="1 problem").first
    expect(problems).to_be_visible()
    press_run(page)
    expect(page.get_by_role("tabpanel")).to_contain_text("latent_image")
    expect(page.get_by_role("status").filter(has_text="Not run")).to_have_count(1)
    expect(canvas.node("Sampler")).to_have_class(re.compile("is-selected"))
    page.locator(".react-flow__pane").click(position={"x": 20, "y": 20})
    expect(canvas.node("Sampler")).not_to_have_class(re.compile("is-selected"))
    page.locator(".problem").click()
    expect(canvas.node("Sampler")).to_have_class(re.compile("is-selected"))
    page.wait_for_function(
        "() => document.activeElement.closest('.react-flow__node')?.querySelector('.node').ariaLabel === 'Sampler'"
    )
    assert ask(address, "GET", "/v1/runs?limit=1")["total"] == before


def test_a_node_that_fails_says_why_and_what_follows_it_is_blocked(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_document(canvas, {"nodegraph": 1, "name": "wrong", "nodes": WRONG, "ui": {"positions": PLACES}})
    press_run(page)
    expect(status(canvas, "Extract")).to_have_text("failed", timeout=60_000)
    expect(status(canvas, "Found")).to_have_text("blocked")
    expect(canvas.node("Found")).to_contain_text("It cannot run: Extract failed.")
    expect(canvas.node("Seen").locator(".node-text")).to_have_text("(")
    canvas.node("Extract").get_by_role("button", name="Details").click()
    dialog = page.get_by_role("dialog", name="Run", exact=True)
    expect(dialog).to_contain_text("is no regular expression")
    expect(dialog.locator(".run-inputs")).to_contain_text("regex_pattern")
    expect(dialog.locator(".run-traceback")).to_contain_text("in regex_extract")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
    assert "ValueError" in page.evaluate("navigator.clipboard.readText()")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_what_a_node_has_to_say_is_shown_with_it_and_again_when_it_is_cached(address, window):
    from playwright.sync_api import expect

    document = json.loads((LIBRARY / "text_to_image.json").read_text()) | {"name": "noted"}
    document["nodes"]["6"]["inputs"]["text"] = "a red sphere <lora:gone:1>"
    document["nodes"]["3"]["inputs"]["steps"] = 1
    canvas = window(address)
    page = open_document(canvas, document)
    press_run(page)
    expect(status(canvas, "Save")).to_have_class(re.compile("is-ran"), timeout=60_000)
    note = canvas.node("Prompt").locator(".node-noted")
    expect(note).to_have_count(1)
    expect(note).to_contain_text("wire a LoraLoader node instead")
    expect(canvas.node("Negative prompt").locator(".node-noted")).to_have_count(0)
    page.reload()
    expect(note).to_contain_text("wire a LoraLoader node instead")
    put(canvas, "Sampler", "seed", "77")
    press_run(page)
    expect(status(canvas, "Prompt")).to_have_text("cached", timeout=60_000)
    expect(note).to_have_count(1)


def test_stop_ends_the_run_of_the_tab(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=400)
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_disabled()
    press_run(page)
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r"/ 400"), timeout=60_000)
    stop.click()
    expect(page.locator(".card.is-cancelled").first).to_be_visible(timeout=60_000)
    expect(canvas.node("Sampler").locator(".node-status")).to_have_count(0)
    expect(stop).to_be_disabled()


def test_a_reload_in_the_middle_of_a_run_shows_where_it_stands(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = open_picture(canvas, steps=200)
    press_run(page)
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r"/ 200"), timeout=60_000)
    page.reload()
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r"^\d+ / 200"), timeout=60_000)
    expect(status(canvas, "Prompt")).to_be_visible()
    expect(page.locator(".card.is-running")).to_contain_text("Sampler")
    expect(picture(canvas, "Save")).to_be_visible(timeout=60_000)
    page.reload()
    expect(picture(canvas, "Save")).to_be_visible()
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r" s$"))


class Process:
    """A server that can be killed and started again on the same home and port."""

    def __init__(self, home):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.address = home, f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        words = ["serve", "--home", str(self.home), "--port", str(self.port), "--no-browser", "--devices", "cpu"]
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nodegraph", *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first.startswith("nodegraph serves http"), first + (self.home / "server.log").read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def process(tmp_path):
    found = Process(tmp_path)
    yield found
    if found.process.poll() is None:
        found.process.terminate()
        found.process.wait(30)
        found.process.stdout.close()


def test_a_server_killed_in_the_middle_of_a_run_loses_nothing(process, window):
    from playwright.sync_api import expect

    canvas = window(process.address)
    page = open_picture(canvas, steps=40)
    press_run(page)
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r"/ 40"), timeout=60_000)
    process.kill()
    expect(page.get_by_text("Reconnecting")).to_be_visible()
    run = page.get_by_role("button", name=re.compile("^Run Ctrl"))
    expect(run).to_be_disabled()
    expect(run).to_have_attribute("title", re.compile("connection to the server is lost"))
    process.start()
    expect(page.get_by_text("The server is back.").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Reconnecting")).to_have_count(0)
    expect(run).to_be_enabled()
    expect(status(canvas, "Sampler")).to_have_text(re.compile(r"^\d+ / 40"), timeout=90_000)
    expect(picture(canvas, "Save")).to_be_visible(timeout=90_000)
    expect(page.locator(".card.is-success")).to_have_count(1)
    assert [found["attempts"] for found in ask(process.address, "GET", "/v1/runs")["runs"]] == [2]
    lost = re.compile("WebSocket connection to|ERR_CONNECTION_REFUSED")  # what browsers say of a server that is gone
    canvas.wrong[:] = [wrong for wrong in canvas.wrong if not lost.search(wrong)]


def test_what_a_run_tells_adds_up(address, window):
    page = window(address).open()
    views = page.evaluate("""async () => {
      const { after, begun, partOf, progressAfter, viewOf } = await import("/web/state/progress.js");
      const file = (filename) => ({ filename, subfolder: "", type: "output", format: "png", nbytes: 1 });
      const told = [
        { type: "RunLeased" }, { type: "RunStarted", nodes: 4 }, { type: "NodeCached", node: "1", tier: "disk" },
        { type: "NodeStarted", node: "2", why: "first run", class_type: "KSampler" },
        { type: "NodeProgress", node: "2", step: 1, total: 2, seconds_left: 3 },
      ];
      const start = { run: "a", status: "queued", nodes: {} };
      const going = told.reduce((view, event) => after(view, event), start);
      const part = partOf(told.reduce((progress, event) => progressAfter(progress, event), undefined));
      const retried = after(going, { type: "RunRetried" });
      const save = (view, name) => after(view, { type: "Saved", node: "2", file: file(name) });
      const saved = after(save(going, "a.png"), { type: "RunOver", status: "success" });
      const again = { run: "b", status: "running", nodes: begun(saved) };
      const replaced = ["b.png", "c.png"].reduce(save, again);
      const names = (view) => view.nodes["2"].files.map(({ filename }) => filename);
      const inner = { node: "2/1", state: "running", notes: ["So.", "And so."] };
      const nodes = [{ node: "2", state: "running", notes: ["So."] }, { node: "3", state: "ran" }, inner];
      const run = { id: "b", status: "running", nodes, files: [], error: null };
      const read = viewOf(run, (id) => id[0], saved.nodes);
      return {
        states: Object.values(going.nodes).map(({ state }) => state), tier: going.nodes["1"].tier, part,
        retried: [retried.status, retried.nodes["2"].state], kept: names(again), replaced: names(replaced),
        read: [read.nodes["2"].state, names(read)], notes: [read.nodes["2"].notes, read.nodes["3"].notes],
      };
    }""")
    assert views == {
        "states": ["cached", "running"], "tier": "disk", "part": 0.375, "retried": ["queued", "waiting"],
        "kept": ["a.png"], "replaced": ["b.png", "c.png"], "read": ["running", ["a.png"]],
        "notes": [["So.", "And so."], []],
    }  # fmt: skip


def test_only_what_a_change_matters_to_runs_again(address, window):
    page = window(address).open()
    found = page.evaluate("""async () => {
      const { targetsChanged } = await import("/web/graph/affected.js");
      const specs = { nodes: new Map([["Save", { kind: "sink" }], ["Make", { kind: "pure" }]]) };
      const node = (class_type, inputs, rest) => ({ class_type, inputs, ...rest });
      const nodes = {
        1: node("Make", { a: 1 }), 2: node("Make", { from: ["1", "X"] }), 3: node("Save", { from: ["2", "X"] }),
        4: node("Make", { a: 1 }), 5: node("Save", { from: ["4", "X"] }),
      };
      const doc = (changes) => ({ nodegraph: 1, nodes: { ...nodes, ...changes } });
      return [
        targetsChanged(doc({}), doc({ 1: node("Make", { a: 2 }) }), specs),
        targetsChanged(doc({}), doc({ 4: node("Make", { a: 1 }, { _meta: { title: "named" } }) }), specs),
        targetsChanged(doc({}), doc({ 4: node("Make", { a: 1 }, { mode: "skip" }) }), specs),
        targetsChanged(doc({}), doc({ 3: node("Save", { from: ["2", "X"] }, { mode: "mute" }) }), specs),
        targetsChanged(doc({}), { ...doc({ 2: node("Make", { from: ["4", "X"] }) }), outputs: { out: "2.X" } }, specs),
      ];
    }""")
    assert found == [["3"], [], ["5"], [], ["3", "2"]]
