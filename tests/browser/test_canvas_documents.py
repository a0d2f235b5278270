"""The canvas loses nothing: drafts, tabs, the library, files that are opened, and two windows on one workflow."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from time import monotonic
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SECONDS = 30.0
ROOT = Path(__file__).parents[2]
GRAPH = json.loads((ROOT / "workflows" / "comfyui_api.json").read_text())
DROP = """([target, files]) => {
  const dragged = new DataTransfer();
  for (const { name, type, bytes } of files) {
    dragged.items.add(new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], name, { type }));
  }
  const at = document.querySelector(target);
  const how = { dataTransfer: dragged, bubbles: true, cancelable: true, clientX: 600, clientY: 400 };
  for (const type of ["dragover", "drop"]) at.dispatchEvent(new DragEvent(type, how));
}"""


@pytest.fixture(scope="module")
def address(serve):
    return serve().rstrip("/")


class Mortal:
    """A server that can be killed without notice, and started again at the same address with all it wrote."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.address = home, f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        words = ["serve", "--home", str(self.home), "--port", str(self.port), "--no-browser", "--devices", "cpu"]
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nodegraph", *words], stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("nodegraph serves")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    server = Mortal(tmp_path)
    yield server
    server.kill()


def ask(address: str, path: str, method: str = "GET", body: object = None, **headers: str):
    """Calls the API -> the JSON of its answer, None where it has none."""
    sent = None if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(address + path, sent, {"Content-Type": "application/json", **names}, method=method)
    with urlopen(request) as answer:
        return json.load(answer) if answer.status != 204 else None


def save(address: str, name: str, document: dict, **headers: str):
    return ask(address, f"/v1/workflows/{quote(name, safe='')}", "PUT", document, **(headers or {"If_None_Match": "*"}))


def greeting(text: str = "hello") -> dict:
    nodes = {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": text}, "_meta": {"title": "Prompt"}}}
    return {"nodegraph": 1, "nodes": nodes, "ui": {"positions": {"1": [0, 0]}}}


def drop(page, *files: tuple[str, str, bytes]) -> None:
    """Drops files, each a name, a type and bytes, onto the canvas."""
    sent = [{"name": name, "type": kind, "bytes": base64.b64encode(data).decode()} for name, kind, data in files]
    page.evaluate(DROP, [".stage", sent])


def png(**texts: str) -> bytes:
    chunks = PngInfo()
    for key, text in texts.items():
        chunks.add_text(key, text)
    out = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(out, "PNG", pnginfo=chunks)
    return out.getvalue()


def tab(page, name: str):
    return page.locator(".tab-name").filter(has=page.get_by_text(name, exact=True))


def prompt(canvas):
    return canvas.node("Prompt").locator("textarea")


def drafts_have(address: str, text: str) -> bool:
    ids = [draft["id"] for draft in ask(address, "/v1/drafts")["drafts"]]
    return any(text in json.dumps(ask(address, f"/v1/drafts/{id}")) for id in ids)


def wait_until(page, is_so) -> None:
    """Waits until something outside of the page is so; the page goes on meanwhile."""
    end = monotonic() + SECONDS
    while not is_so():
        assert monotonic() < end, "it did not happen"
        page.evaluate("() => new Promise(requestAnimationFrame)")


def until_kept(canvas, text: str) -> None:
    """Waits until the server has a draft with a text."""
    wait_until(canvas.page, lambda: drafts_have(canvas.address, text))


def until_kept_here(page, is_so) -> None:
    """Waits until a draft that this browser keeps is as it should be."""
    read = """async () => {
      const { keyval } = await import("/web/vendor/flow.js");
      const entries = await keyval.entries(keyval.createStore("nodegraph ", "drafts"));
      return entries.filter(([key]) => key.startsWith("draft:")).map(([, record]) => record);
    }"""
    wait_until(page, lambda: any(map(is_so, page.evaluate(read))))


def has(text: str):
    return lambda record: text in json.dumps(record)


def test_the_verdict_on_two_versions_of_a_draft_loses_neither(address, window):
    page = window(address).open()
    found = page.evaluate(
        """async () => {
          const { verdict } = await import("/web/state/draft.js");
          const doc = (text) => ({ nodegraph: 1, nodes: { 1: { class_type: "A", inputs: { text } } } });
          const seen = (text) => ({ ...doc(text), ui: { viewport: { x: 1, y: 2, zoom: 3 } } });
          return [
            verdict({ doc: doc("a"), sent: [], isKnown: true }, doc("b")),
            verdict({ doc: doc("a"), sent: [], isKnown: false }, doc("b")),
            verdict({ doc: doc("a"), sent: [], isKnown: false }, seen("a")),
            verdict({ doc: doc("c"), sent: [doc("b")], isKnown: false }, doc("b")),
          ];
        }"""
    )
    assert found == ["theirs", "both", "mine", "mine"]


def test_a_reload_keeps_tabs_their_order_the_one_in_front_edits_and_the_view(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    prompt(canvas).fill("a lighthouse at dusk")
    page.get_by_role("button", name="new tab").click()
    page.get_by_role("button", name="Two pass").click()
    expect(canvas.node("Prompt")).to_be_visible()
    tab(page, "two_pass").press("Control+ArrowLeft")
    expect(page.locator(".tab-name").first).to_have_text("two_pass")
    page.locator(".react-flow__pane").focus()
    page.keyboard.press("1")
    page.wait_for_function("() => document.querySelector('.react-flow__viewport').style.transform.includes('scale(1)')")
    until_kept_here(page, lambda one: one["name"] == "two_pass" and zoom(one) == 1)
    page.reload()
    expect(page.locator(".tab-name")).to_have_text(["two_pass", re.compile("text_to_image")])
    expect(page.locator(".tab-name[aria-current]")).to_have_text("two_pass")
    expect(page.locator(".react-flow__viewport")).to_have_attribute("style", re.compile(r"scale\(1\)"))
    tab(page, "text_to_image").click()
    expect(prompt(canvas)).to_have_value("a lighthouse at dusk")
    expect(tab(page, "text_to_image")).to_contain_text("not saved")


def zoom(record: dict) -> float | None:
    return record["doc"].get("ui", {}).get("viewport", {}).get("zoom")


def test_an_edit_survives_a_server_that_is_killed_before_it_has_it_and_goes_there_when_it_is_back(mortal, window):
    from playwright.sync_api import expect

    canvas = window(mortal.address)
    page = canvas.open()
    mortal.kill()
    expect(page.get_by_text("Reconnecting")).to_be_visible()
    prompt(canvas).fill("written while nobody listened")
    until_kept_here(page, has("written while nobody"))
    mortal.start()
    expect(page.get_by_text("Reconnecting")).to_be_hidden(timeout=30_000)
    until_kept(canvas, "written while nobody listened")
    prompt(canvas).fill("and once more")
    until_kept_here(page, has("and once more"))
    mortal.kill()
    mortal.start()
    page.reload()
    expect(prompt(canvas)).to_have_value("and once more")
    until_kept(canvas, "and once more")
    canvas.wrong[:] = [wrong for wrong in canvas.wrong if "ERR_CONNECTION" not in wrong and "WebSocket" not in wrong]


def test_a_draft_that_another_machine_wrote_meanwhile_stays_and_mine_becomes_a_copy(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    prompt(canvas).fill("first")
    until_kept(canvas, "first")
    entry = ask(address, "/v1/drafts")["drafts"][0]
    draft = ask(address, f"/v1/drafts/{entry['id']}")
    was_first: list[bool] = []

    def write_before(route):
        if route.request.method == "PUT" and not was_first:
            was_first.append(True)
            draft["document"]["nodes"]["6"]["inputs"]["text"] = "theirs"
            body = {key: draft[key] for key in ("name", "workflow", "base", "document")}
            ask(address, f"/v1/drafts/{entry['id']}", "PUT", body, If_Match=f'"{entry["revision"]}"')
        route.continue_()

    page.route("**/v1/drafts/*", write_before)
    prompt(canvas).fill("mine")
    expect(tab(page, "text_to_image (copy)")).to_be_visible()
    expect(page.locator(".toasts")).to_contain_text("was changed in another window")
    expect(prompt(canvas)).to_have_value("mine")
    tab(page, "text_to_image").click()
    expect(prompt(canvas)).to_have_value("theirs")
    until_kept(canvas, "mine")
    assert drafts_have(address, "theirs")
    canvas.wrong[:] = [wrong for wrong in canvas.wrong if "412" not in wrong]


def test_a_window_that_is_duplicated_works_on_copies(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    prompt(canvas).fill("the original")
    until_kept_here(page, has("the original"))
    with page.expect_popup() as opened:
        page.evaluate("() => void window.open('/')")
    other = opened.value
    expect(other.locator(".toasts")).to_contain_text("These tabs are copies")
    field = other.locator('.node[aria-label="Prompt"] textarea')
    expect(field).to_have_value("the original")
    field.fill("the copy")
    until_kept(canvas, "the copy")
    page.reload()
    expect(prompt(canvas)).to_have_value("the original")
    other.reload()
    expect(field).to_have_value("the copy")


@pytest.mark.parametrize("has_locks", [True, False], ids=["locks", "messages"])
def test_a_claim_is_one_windows_until_it_lets_go(address, window, has_locks):
    first = window(address)
    pages = [first.page, window(address, context=first.page.context).page]
    for page in pages:
        if not has_locks:  # as on plain http of another machine
            page.add_init_script("Object.defineProperty(navigator, 'locks', { value: undefined })")
        page.goto(f"{address}/web/index.html")
    claim = """async (wants) => {
      const { claim } = await import("/web/state/claims.js");
      if (wants) return Boolean(window.letGo = await claim("a draft"));
      window.letGo();
    }"""
    assert pages[0].evaluate(claim, True) is True
    assert pages[1].evaluate(claim, True) is False
    pages[0].evaluate(claim, False)
    assert pages[1].evaluate(claim, True) is True


def test_two_windows_on_one_workflow_never_overwrite_each_other(address, window):
    from playwright.sync_api import expect

    save(address, "shared", greeting())
    one = window(address)
    first = one.open("/?workflow=shared")
    two = window(address, context=first.context)
    second = two.open("/?workflow=shared")
    prompt(one).fill("by the first")
    prompt(two).fill("by the second")
    first.keyboard.press("Control+s")
    expect(first.locator(".toasts")).to_contain_text('Saved as "shared"')
    expect(second.get_by_role("alert")).to_contain_text("was saved in another window")
    second.keyboard.press("Control+s")
    dialog = second.get_by_role("dialog", name='"shared" was saved elsewhere meanwhile')
    dialog.get_by_role("button", name="See theirs").click()
    expect(prompt(two)).to_have_value("by the first")
    tab(second, "shared").click()
    expect(prompt(two)).to_have_value("by the second")
    assert ask(address, "/v1/workflows/shared")["nodes"]["1"]["inputs"]["text"] == "by the first"
    second.keyboard.press("Control+s")
    dialog.get_by_role("button", name="Save as a copy").click()
    second.get_by_label("Name", exact=True).fill("shared too")
    second.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(second.locator(".tab-name[aria-current]")).to_have_text("shared too")
    assert ask(address, "/v1/workflows/shared%20too")["nodes"]["1"]["inputs"]["text"] == "by the second"
    two.wrong[:] = [wrong for wrong in two.wrong if "412" not in wrong]


def test_what_another_window_saved_is_taken_by_reload_and_given_back_by_undo(address, window):
    from playwright.sync_api import expect

    etag = save(address, "told", greeting())["etag"]
    canvas = window(address)
    page = canvas.open("/?workflow=told")
    prompt(canvas).fill("mine")
    save(address, "told", greeting("theirs"), If_Match=etag)
    page.get_by_role("alert").get_by_role("button", name="Reload").click()
    expect(prompt(canvas)).to_have_value("theirs")
    expect(tab(page, "told")).not_to_contain_text("not saved")
    page.locator(".react-flow__pane").focus()
    page.keyboard.press("Control+z")
    expect(prompt(canvas)).to_have_value("mine")


def test_a_workflow_is_saved_under_a_name_its_versions_open_and_a_taken_name_is_not_overwritten(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    prompt(canvas).fill("version one")
    page.keyboard.press("Control+Shift+S")
    page.get_by_label("Name", exact=True).fill("lighthouse")
    page.get_by_label("Folder", exact=True).fill("sea")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.locator(".tab-name[aria-current]")).to_have_text("lighthouse")
    prompt(canvas).fill("version two")
    page.keyboard.press("Control+s")
    expect(page.locator(".toasts")).to_contain_text('Saved as "sea/lighthouse"')
    expect(tab(page, "lighthouse")).not_to_contain_text("not saved")
    assert "version two" in json.dumps(ask(address, "/v1/workflows/sea%2Flighthouse"))
    tab(page, "lighthouse").click(button="right")
    page.get_by_role("menuitem", name="Versions").click()
    versions = page.get_by_role("dialog", name="Versions of sea/lighthouse")
    expect(versions).to_contain_text("1 changed")
    versions.get_by_role("button", name="Open in a new tab").click()
    expect(prompt(canvas)).to_have_value("version one")
    page.keyboard.press("Control+s")
    page.get_by_label("Name", exact=True).fill("lighthouse")
    page.get_by_label("Folder", exact=True).fill("sea")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog", name=re.compile("There is a workflow"))).to_be_visible()
    assert "version two" in json.dumps(ask(address, "/v1/workflows/sea%2Flighthouse"))
    canvas.wrong[:] = [wrong for wrong in canvas.wrong if "412" not in wrong]


def test_a_tab_that_is_closed_is_reopened_with_its_undo_and_stays_among_the_drafts(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    prompt(canvas).fill("not to be lost")
    page.get_by_role("button", name="close text_to_image").click()
    expect(page.locator(".empty-canvas")).to_be_visible()
    page.get_by_role("button", name="Reopen").click()
    expect(prompt(canvas)).to_have_value("not to be lost")
    page.locator(".react-flow__pane").focus()
    page.keyboard.press("Control+z")
    expect(prompt(canvas)).not_to_have_value("not to be lost")
    page.keyboard.press("Control+Shift+Z")
    page.keyboard.press("Alt+w")
    until_kept(canvas, "not to be lost")
    page.reload()
    page.get_by_role("button", name="Library", exact=True).click()
    page.get_by_role("region", name="Drafts").get_by_role("button", name=re.compile("^text_to_image")).first.click()
    expect(prompt(canvas)).to_have_value("not to be lost")


def test_dropped_files_of_comfyui_open_in_tabs_of_their_own_and_run(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    api = json.dumps(GRAPH)
    drop(page, ("by_comfyui.png", "image/png", png(prompt=api)), ("api.json", "application/json", api.encode()))
    expect(tab(page, "by_comfyui")).to_be_visible()
    expect(tab(page, "api")).to_be_visible()
    for name in ("by_comfyui", "api"):
        tab(page, name).click()
        page.get_by_role("button", name=re.compile("^Run")).first.click()
        expect(page.locator("img.node-picture").first).to_be_visible(timeout=60_000)


def test_a_picture_without_a_workflow_is_offered_to_a_loader(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    drop(page, ("plain.png", "image/png", png()))
    page.get_by_role("button", name=re.compile("Use it in")).click()
    expect(page.locator('.node[aria-label^="Load image" i]')).to_contain_text("plain.png")
    drop(page, ("broken.json", "application/json", b"{"))
    expect(page.locator(".toast.is-error")).to_contain_text("broken.json")
    canvas.wrong[:] = [wrong for wrong in canvas.wrong if "422" not in wrong and "400" not in wrong]


def test_a_node_of_an_unknown_type_is_kept_and_saved_unchanged(address, window):
    from playwright.sync_api import expect

    strange = {
        "class_type": "FromElsewhere",
        "inputs": {"strength": 0.5, "x": ["1", "CONDITIONING"]},
        "more": {"a": [1]},
    }
    document = greeting() | {"extra": {"of": "another version"}}
    document["nodes"]["2"] = strange
    save(address, "strange", document)
    canvas = window(address)
    page = canvas.open("/?workflow=strange")
    prompt(canvas).fill("changed")
    page.keyboard.press("Control+s")
    expect(page.locator(".toasts")).to_contain_text("Saved")
    saved = ask(address, "/v1/workflows/strange")
    assert saved["nodes"]["2"] == strange
    assert saved["extra"] == {"of": "another version"}
    assert saved["nodes"]["1"]["inputs"]["text"] == "changed"


def test_a_workflow_is_exported_for_comfyui_with_reroutes_and_skipped_nodes_resolved(address, window):
    page = window(address).open()
    found = page.evaluate(
        """async () => {
          const { apiGraph } = await import("/web/graph/api.js");
          const image = { name: "image", port: "IMAGE", link_only: true };
          const made = { name: "IMAGE", port: "IMAGE" };
          const spec = (name, inputs, outputs) => [name, { name, inputs, outputs }];
          const mask = { name: "MASK", port: "MASK" };
          const specs = { nodes: new Map([spec("Load", [], [mask, made]), spec("Blur", [image], [made]),
            spec("Save", [image], [])]) };
          const nodes = {
            1: { class_type: "Load", inputs: {} },
            2: { class_type: "Reroute", inputs: { value: ["1", "IMAGE"] } },
            3: { class_type: "Blur", inputs: { image: ["2", 0] }, mode: "skip" },
            4: { class_type: "Save", inputs: { image: ["3", "IMAGE"] } },
            5: { class_type: "Save", inputs: { image: ["1", "IMAGE"] }, mode: "mute" },
          };
          return apiGraph({ nodegraph: 1, nodes }, specs);
        }"""
    )
    assert found == {
        "1": {"class_type": "Load", "inputs": {}},
        "4": {"class_type": "Save", "inputs": {"image": ["1", 1]}},
    }


def test_the_library_finds_renames_deletes_and_inserts_workflows(address, window):
    from playwright.sync_api import expect

    save(address, "harbour", greeting())
    canvas = window(address)
    page = canvas.open()
    page.get_by_role("button", name="Library", exact=True).click()
    expect(page.get_by_role("region", name="Gallery of workflows").locator("img").first).to_be_visible()
    page.get_by_label("Search workflows").fill("harbour")
    mine = page.get_by_role("region", name="My workflows")
    expect(mine.locator("li")).to_have_count(1)
    page.get_by_role("button", name="more of harbour").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("Name, with its folder").fill("old harbour")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(mine.get_by_role("button", name="Old harbour", exact=True)).to_be_visible()
    page.get_by_role("button", name="more of old harbour").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(mine).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(mine.get_by_role("button", name="Old harbour", exact=True)).to_be_visible()
    page.get_by_label("Search workflows").fill("draw")
    page.get_by_role("button", name="more of draw").click()
    page.get_by_role("menuitem", name="Insert as a node").click()
    expect(page.locator('.node[aria-label="draw" i]')).to_be_visible()


def test_a_file_is_opened_by_its_menu_and_what_the_gallery_lets_go_opens_too(address, window, tmp_path):
    from playwright.sync_api import expect

    editor_file = {
        "nodes": [{"id": 1, "type": "CLIPTextEncode", "pos": [0, 0], "size": [300, 120], "inputs": [], "outputs": [],
                   "mode": 0, "widgets_values": ["from the editor"], "title": "Prompt"}],
        "links": [], "version": 0.4,
    }  # fmt: skip
    path = tmp_path / "sketch.json"
    path.write_text(json.dumps(editor_file))
    canvas = window(address)
    page = canvas.open()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Control+o")
    chooser.value.set_files(path)
    expect(page.locator(".tab-name[aria-current]")).to_have_text("sketch")
    expect(prompt(canvas)).to_have_value("from the editor")
    page.evaluate(
        """() => {
          const dragged = new DataTransfer();
          dragged.setData("application/x-nodegraph-open", JSON.stringify({ workflow: "two_pass" }));
          const at = document.querySelector(".stage");
          at.dispatchEvent(new DragEvent("dragover", { dataTransfer: dragged, bubbles: true, cancelable: true }));
          window.letGo = () => at.dispatchEvent(new DragEvent("drop", { dataTransfer: dragged, bubbles: true }));
        }"""
    )
    expect(page.get_by_text("Drop to open in a new tab")).to_be_visible()
    page.evaluate("() => void window.letGo()")
    expect(page.locator(".tab-name[aria-current]")).to_have_text("two_pass")
    expect(page.get_by_text("Drop to open in a new tab")).to_be_hidden()


def test_leaving_asks_only_while_neither_browser_nor_server_has_the_work(address, window):
    leave = "() => window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    canvas = window(address)
    canvas.page.add_init_script(
        "IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError') }"
    )
    page = canvas.open()
    assert page.evaluate(leave) is True
    page.route("**/v1/drafts/*", lambda route: route.abort())
    prompt(canvas).fill("only here")
    assert page.evaluate(leave) is False
    page.unroute("**/v1/drafts/*")
    until_kept(canvas, "only here")
    wait_until(page, lambda: page.evaluate(leave))
    canvas.wrong[:] = [wrong for wrong in canvas.wrong if "ERR_FAILED" not in wrong]
