"""What comes of runs: the gallery, the viewer, comparisons, and masks painted over pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest

SIDE = 128  # of the pictures of `small`
LIBRARY = Path(__file__).parents[2] / "workflows"
LINK = "a.gallery-picture"


@pytest.fixture(scope="module")
def address(serve):
    """A server whose library has `small`: text to image, without what enlarges the picture."""
    address = serve()
    document = json.loads((LIBRARY / "text_to_image.json").read_text())
    document["nodes"]["9"]["inputs"]["images"] = ["8", "IMAGE"]
    document["outputs"] = {"image": "8.IMAGE"}
    del document["nodes"]["10"], document["nodes"]["11"], document["inputs"]["upscaler"]
    call(address, "/v1/workflows/small", document | {"name": "small"}, "PUT", **{"If-None-Match": "*"})
    return address


@pytest.fixture(scope="module")
def made(address):
    """Two runs, the newer one last: they differ in the seed and in a word of the prompt."""
    return [
        run_of(address, "small", prompt="a small blue cube", seed=1, steps=2),
        run_of(address, "small", prompt="a small red cube", seed=2, steps=2),
    ]


def call(address, path, body=None, method=None, **headers):
    content = json.dumps(body).encode() if body is not None else None
    request = Request(
        address.rstrip("/") + path, content, {"Content-Type": "application/json", **headers}, method=method
    )
    with urlopen(request) as answer:
        return answer.read()


def run_of(address, workflow, **inputs):
    return json.loads(call(address, f"/v1/workflows/{workflow}/run", {"inputs": inputs}))


def gallery_of(canvas):
    page = canvas.open()
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(LINK)
    return page


def picture_named(page, run):
    return page.locator(f'{LINK}[href="{run["files"][0]["url"]}"]')


def test_the_gallery_shows_pictures_newest_first_and_finds_them_by_their_prompt(address, window, made):
    from playwright.sync_api import expect

    page = gallery_of(window(address))
    shown = page.locator(LINK).evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    assert shown[:2] == [run["files"][0]["url"] for run in reversed(made)]
    page.get_by_role("searchbox", name="search pictures").fill("blue")
    expect(page.locator(LINK)).to_have_count(1)
    expect(picture_named(page, made[0])).to_be_visible()
    page.get_by_role("searchbox", name="search pictures").fill("nobody drew this")
    expect(page.get_by_text("No picture fits these words.")).to_be_visible()


def test_a_picture_appears_in_the_gallery_when_its_run_ends(address, window, made):
    from playwright.sync_api import expect

    page = gallery_of(window(address))
    new = run_of(address, "small", prompt="a new ring", seed=5, steps=2)
    expect(page.locator(LINK).first).to_have_attribute("href", new["files"][0]["url"])


def test_arrows_move_in_the_gallery_and_enter_opens_a_picture(address, window, made):
    from playwright.sync_api import expect

    page = gallery_of(window(address))
    page.locator(LINK).first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(LINK).nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    name = page.locator(LINK).nth(1).get_attribute("href").rpartition("/")[2]
    expect(page.get_by_role("dialog", name=f"Picture {name}")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(LINK).nth(1)).to_be_focused()


def test_the_workflow_of_a_picture_opens_as_it_ran(address, window, made):
    page = gallery_of(window(address))
    picture_named(page, made[0]).click(button="right")
    with page.expect_response("**/v1/open") as opened:
        page.get_by_role("button", name="Open workflow").click()
    document = opened.value.json()["document"]
    ran = json.loads(call(address, f"/v1/runs/{made[0]['id']}/workflow"))
    assert document["nodes"].keys() == ran["nodes"].keys()
    assert document["nodes"]["3"]["inputs"]["seed"] == ran["nodes"]["3"]["inputs"]["seed"] == 1
    page.wait_for_function("() => document.querySelectorAll('.node').length === 7")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.node textarea')].some((one) => one.value === 'a small blue cube')"
    )


def test_a_picture_that_is_dragged_onto_the_canvas_opens_its_workflow(address, window, made):
    page = gallery_of(window(address))
    picture_named(page, made[1]).drag_to(page.locator(".react-flow"), target_position={"x": 300, "y": 300})
    page.wait_for_function(
        "() => [...document.querySelectorAll('.node textarea')].some((one) => one.value === 'a small red cube')"
    )


def test_the_gallery_reads_page_by_page_as_one_scrolls(address, window, made):
    canvas = window(address)
    same = {
        "type": "output",
        "subfolder": "",
        "format": "png",
        "node": "9",
        "bytes": 1,
        "created": "2026-01-01T00:00:00Z",
    }

    def answer(route):
        first = int(parse_qs(urlsplit(route.request.url).query).get("cursor", ["10000.0"])[0].partition(".")[0])
        numbers = range(first, first - 60, -1)
        files = [
            {"url": f"/v1/files/output/{number}.png", "filename": f"{number}.png", "run": str(number), **same}
            for number in numbers
        ]
        route.fulfill(json={"outputs": files, "next": f"{first - 60}.0"})

    picture = call(address, made[0]["files"][0]["url"])
    canvas.page.route("**/v1/outputs*", answer)
    canvas.page.route("**/v1/files/output/*", lambda route: route.fulfill(body=picture, content_type="image/png"))
    page = gallery_of(canvas)
    page.wait_for_load_state("networkidle")
    count = page.locator(LINK).count()
    assert count <= 180
    for _ in range(3):
        page.locator(LINK).first.press("End")
        page.wait_for_function(f"() => document.querySelectorAll('{LINK}').length > {count}")
        count = page.locator(LINK).count()
    names = page.locator(LINK).evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    assert len(set(names)) == len(names) and names[0].endswith("/10000.png")


def test_the_viewer_zooms_about_the_pointer_and_steps_through_the_pictures(address, window, made):
    from playwright.sync_api import expect

    page = gallery_of(window(address))
    picture_named(page, made[1]).click()
    picture = page.locator(".viewer .full-picture")
    page.wait_for_function(f"() => document.querySelector('.viewer .full-picture')?.naturalWidth === {SIDE}")
    box = picture.bounding_box()
    point = (box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.move(*point)
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"() => document.querySelector('.viewer .full-picture').clientWidth > {box['width'] * 1.5}")
    after = picture.bounding_box()
    assert abs((point[0] - after["x"]) / after["width"] - 0.25) < 0.01
    assert picture.evaluate("one => getComputedStyle(one).imageRendering") == "pixelated"
    page.keyboard.press("1")
    page.wait_for_function(f"() => document.querySelector('.viewer .full-picture').clientWidth === {SIDE}")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".full-title")).to_have_text(made[0]["files"][0]["filename"])
    expect(page.locator(".fact-prompt")).to_have_text("a small blue cube")
    page.get_by_role("button", name="previous picture").click()
    expect(page.locator(".full-title")).to_have_text(made[1]["files"][0]["filename"])


def test_a_picture_of_a_node_opens_in_the_viewer_with_its_run(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    page.get_by_role("button", name="Run", exact=False).first.click()
    canvas.node("Save").locator(".node-picture-button").click(timeout=60_000)
    expect(page.locator(".viewer .fact-prompt").first).to_contain_text("sphere")
    expect(page.locator(".viewer .time-name", has_text="Sampler")).to_be_visible()


def test_the_download_without_metadata_has_no_chunks_but_those_of_the_picture(address, window, made):
    page = gallery_of(window(address))
    picture_named(page, made[0]).click()
    kinds = []
    for name in ("Download with workflow", "Download without metadata"):
        with page.expect_download() as started:
            page.get_by_role("link", name=name).click()
        assert started.value.suggested_filename == made[0]["files"][0]["filename"]
        kinds.append(chunks_of(started.value.path().read_bytes()))
    assert "tEXt" in kinds[0] or "iTXt" in kinds[0]
    assert kinds[1] <= {"IHDR", "PLTE", "IDAT", "IEND"}


def chunks_of(content):
    kinds, at = set(), 8
    while at < len(content):
        kinds.add(content[at + 4 : at + 8].decode())
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    return kinds


def test_two_pictures_are_compared_by_a_slider_and_by_what_made_them(address, window, made):
    from playwright.sync_api import expect

    page = gallery_of(window(address))
    for run in made:
        picture_named(page, run).click(modifiers=["Control"])
    page.get_by_role("button", name="Compare").click()
    slider = page.get_by_role("slider", name="where the second picture begins")
    expect(slider).to_have_attribute("aria-valuenow", "50")
    page.wait_for_function("() => document.querySelector('.compare .full-picture')?.clientWidth > 0")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", "48")
    box = slider.bounding_box()
    stage = page.locator(".compare .full-stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] * 0.8, box["y"] + 40, steps=8)
    page.mouse.up()
    expect(slider).to_have_attribute("aria-valuenow", "80")
    seed = page.locator(".difference-table tbody tr", has=page.get_by_text("seed", exact=True))
    expect(seed.locator("td")).to_have_text(["seed", "1", "2"])
    text = page.locator(".difference-table tbody tr", has=page.get_by_text("text", exact=True))
    expect(text.locator("del")).to_have_text("blue")
    expect(text.locator("ins")).to_have_text("red")
    expect(page.locator(".difference-table tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Side by side").click()
    expect(page.locator(".compare .full-stage")).to_have_count(2)


def test_a_run_is_deleted_with_its_pictures_only_after_asking(address, window):
    from playwright.sync_api import expect

    run = run_of(address, "small", prompt="of no use", seed=9, steps=1)
    page = gallery_of(window(address))
    picture_named(page, run).click()
    page.get_by_role("button", name="Delete the run").click()
    page.get_by_role("button", name="Delete it and its files?").click()
    expect(page.get_by_text("The run is deleted, with 1 file.").first).to_be_visible()
    expect(picture_named(page, run)).to_have_count(0)
    assert run["id"] not in call(address, "/v1/runs").decode()


def test_the_difference_of_documents_knows_renumbered_nodes(address, window):
    page = window(address).open()
    found = page.evaluate(
        """async () => {
      const { diffOf, wordsOf } = await import("/web/graph/diff.js");
      const specs = { nodes: new Map(), files: {}, failures: {} };
      const text = (value) => ({ class_type: "Text", inputs: { text: value, clip: ["1", 0] } });
      const node = (type, inputs = {}) => ({ class_type: type, inputs });
      const one = { nodegraph: 1, nodes: { 1: node("Model", { name: "a" }), 2: text("sun"), 3: node("Old"),
        4: node("Sink", { from: ["2", 0], also: ["1", 0] }) } };
      const other = { nodegraph: 1, ui: { positions: { 1: [5, 5] } }, nodes: { 1: node("Model", { name: "b" }),
        9: text("sun"), 8: node("New"), 4: node("Sink", { from: ["9", 0] }) } };
      const words = wordsOf("a red, red rose", "a blue, red rose");
      return [diffOf(one, other, specs), words.filter(({ kind }) => kind !== "same")];
    }"""
    )
    diff, words = found
    assert [node["id"] for node in diff["added"]] == ["8"]
    assert [node["id"] for node in diff["removed"]] == ["3"]
    assert [(change["node"]["id"], change["input"], change["from"], change["to"]) for change in diff["values"]] == [
        ("1", "name", "a", "b")
    ]
    assert [(change["input"], change["from"]) for change in diff["wires"]] == [("also", "Model · 0")]
    assert words == [{"kind": "removed", "text": "red"}, {"kind": "added", "text": "blue"}]


def test_strokes_of_a_mask_are_undone_exactly(address, window):
    page = window(address).open()
    found = page.evaluate(
        """async () => {
      const { emptyMask, everywhere, patchOf, pixelsOf, put, stroke, wholeOf } = await import("/web/graph/mask.js");
      const mask = emptyMask(40, 30);
      const before = mask.bytes.slice();
      const rect = stroke(mask, { x: -5, y: 10 }, { x: 20, y: 10 }, { radius: 4, hardness: 1, erases: false });
      const patch = patchOf(mask, before, rect);
      const painted = [mask.bytes[10 * 40 + 10], mask.bytes[20 * 40 + 10]];
      const file = pixelsOf(mask, wholeOf(mask), null);
      const alpha = [file[(10 * 40 + 10) * 4 + 3], file[(20 * 40 + 10) * 4 + 3]];
      put(mask, patch.rect, patch.before);
      const isUndone = mask.bytes.every((byte) => byte === 0);
      put(mask, patch.rect, patch.after);
      stroke(mask, { x: 10, y: 10 }, { x: 10, y: 10 }, { radius: 2, hardness: 1, erases: true });
      const erased = mask.bytes[10 * 40 + 10];
      everywhere(mask, (byte) => 255 - byte);
      return { rect, painted, alpha, isUndone, erased, inverted: mask.bytes[20 * 40 + 10] };
    }"""
    )
    assert found["rect"]["x"] == 0 and found["rect"]["y"] == 6
    assert found == {
        "rect": found["rect"], "painted": [255, 0], "alpha": [0, 255], "isUndone": True, "erased": 0, "inverted": 255
    }  # fmt: skip


def test_a_painted_mask_is_saved_in_the_picture_and_the_run_samples_only_there(address, window, made):
    from PIL import Image
    from playwright.sync_api import expect

    canvas = window(address)
    page = gallery_of(canvas)
    picture_named(page, made[0]).click()
    with page.expect_response("**/v1/uploads"):
        page.get_by_role("button", name="Use as input").click()
    loader = canvas.node("Load Image")
    expect(loader).to_be_visible()
    page.locator(".toast", has_text="new Load Image node").wait_for()
    loader.get_by_role("button", name="Edit mask").click()
    page.wait_for_function(
        f"() => (one => one?.width === {SIDE} && one.clientWidth > 0)(document.querySelector('.mask-canvas'))"
    )
    box = page.locator(".mask-canvas").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.45, y, steps=8)
    page.mouse.up()
    page.keyboard.press("Control+z")
    expect(page.get_by_role("button", name="redo")).to_be_enabled()
    page.keyboard.press("Control+Shift+z")
    with page.expect_response("**/upload/mask") as saved:
        page.get_by_role("button", name="Save mask").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    stored = saved.value.json()
    name = f"{stored['subfolder']}/{stored['name']}"
    masked = Image.open(io.BytesIO(call(address, f"/v1/files/input/{name}")))
    original = Image.open(io.BytesIO(call(address, made[0]["files"][0]["url"])))
    assert masked.getpixel((SIDE * 35 // 100, SIDE // 2))[3] == 0
    assert masked.getpixel((SIDE * 80 // 100, SIDE // 2))[3] == 255
    assert masked.convert("RGB").tobytes() == original.convert("RGB").tobytes()

    answer = json.loads(call(address, "/v1/runs", {"workflow": inpainting(name)}))
    run = json.loads(call(address, f"{answer['wait']}?timeout=60"))
    assert run["status"] == "success", run["error"]
    mask = Image.open(io.BytesIO(call(address, next(file["url"] for file in run["files"] if file["node"] == "10"))))
    assert mask.convert("L").getpixel((SIDE * 35 // 100, SIDE // 2)) == 255
    assert mask.convert("L").getpixel((SIDE * 80 // 100, SIDE // 2)) == 0
    drawn = Image.open(io.BytesIO(call(address, next(file["url"] for file in run["files"] if file["node"] == "9"))))
    inside = difference(original, drawn, (SIDE * 25 // 100, SIDE * 42 // 100, SIDE * 45 // 100, SIDE * 58 // 100))
    outside = difference(original, drawn, (SIDE * 75 // 100, 0, SIDE, SIDE))
    assert inside > 3 * outside


def inpainting(name):
    """A workflow that samples anew what is masked in a picture of the input folder, and shows the mask."""

    def text(value):
        return {"class_type": "CLIPTextEncode", "inputs": {"text": value, "clip": ["4", 1]}}

    return {
        "nodegraph": 1,
        "nodes": {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "starter.safetensors"}},
            "6": text("a large red sphere"),
            "7": text(""),
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0], "vae": ["4", 2]}},
            "5": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["2", 0], "mask": ["1", 1]}},
            "3": {
                "class_type": "KSampler",
                "inputs": {
                    "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
                    "seed": 4, "steps": 8, "cfg": 6.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
                },
            },
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "inpainted"}},
            "11": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 1]}},
            "10": {"class_type": "PreviewImage", "inputs": {"images": ["11", 0]}},
        },
    }  # fmt: skip


def difference(one, other, box):
    """The mean difference of the bytes of two pictures in a part."""
    left, right = (picture.convert("RGB").crop(box).tobytes() for picture in (one, other))
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)
