"""The fields of nodes: numbers, seeds, choices, texts, switches, colours and pictures."""

from __future__ import annotations

import io
import json
import random
import re
import urllib.error
import urllib.request

import pytest
from PIL import Image

from tests.browser.waiting import wait_until

LARGEST = 2**64 - 1
NODES = {
    "1": {
        "class_type": "KSampler",
        "inputs": {"seed": 7, "steps": 20, "cfg": 7.5, "sampler_name": "dpmpp_2m", "latent_image": ["3", "LATENT"]},
    },
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red cat"}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": ["4", "INT"]}},
    "4": {"class_type": "PrimitiveInt", "_meta": {"title": "Width"}, "inputs": {"value": 512}},
    "5": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "old/startr.safetensors"}},
    "6": {"class_type": "LoadImage", "inputs": {}},
    "7": {"class_type": "EmptyImage", "inputs": {"color": 255}},
    "8": {"class_type": "Switch", "inputs": {"condition": False, "on_true": {"a": [1, 2]}, "on_false": "5"}},
}
PLACES = {id: [300 * (number % 4), 440 * (number // 4)] for number, id in enumerate(NODES)}
NOISE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 32}},
    "2": {"class_type": "ImageAddNoise", "inputs": {"image": ["1", "IMAGE"], "seed": LARGEST, "strength": 0.5}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", "IMAGE"]}},
}


@pytest.fixture(scope="module")
def address(serve):
    return serve().rstrip("/")


@pytest.fixture
def canvas(address, window):
    """Opens a workflow of some nodes -> its window."""

    def open_canvas(nodes=NODES, name="fields", **ui):
        put(address, name, {"nodegraph": 1, "name": name, "nodes": nodes, "ui": {"positions": PLACES, **ui}})
        found = window(address)
        found.open(f"/?workflow={name}")
        return found

    return open_canvas


def put(address, name, document):
    for condition in ("If-None-Match", "If-Match"):
        request = urllib.request.Request(
            f"{address}/v1/workflows/{name}", json.dumps(document).encode(), method="PUT",
            headers={"Content-Type": "application/json", condition: "*"},
        )  # fmt: skip
        try:
            return urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            error.close()
            assert error.code == 412
    raise AssertionError(f"{name} is not there and cannot be made")


def fetched(address, path):
    with urllib.request.urlopen(address + path) as answer:
        return json.load(answer)


def picture(color="red"):
    """A small picture, as a file that is chosen or dropped."""
    body = io.BytesIO()
    Image.new("RGB", (40, 20), color).save(body, "PNG")
    return {"name": f"{color}.png", "mimeType": "image/png", "buffer": body.getvalue()}


def message(field):
    """What is wrong with a field, as it is said."""
    return field.evaluate("field => document.getElementById(field.getAttribute('aria-describedby'))?.textContent ?? ''")


def steps_of(page):
    """The field of a sampler's steps."""
    return page.get_by_role("spinbutton", name="steps", exact=True)


def pull(page, field, pixels, key=""):
    """Drags a field to the right."""
    box = field.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    if key:
        page.keyboard.down(key)
    page.mouse.move(x + pixels, y, steps=10)
    if key:
        page.keyboard.up(key)
    page.mouse.up()


def test_whole_numbers_of_any_size_are_read_and_written_exactly(address, window):
    chance = random.Random(5)
    words = ["plain", 'quo"te', "back\\slash", '\\"12345678901234567890', "12345678901234567890", "ünï\n", "[1,2"]

    def value(depth):
        kind = chance.randrange(8 if depth else 6)
        if kind < 2:
            return chance.choice([1, -1]) * chance.getrandbits(chance.choice([8, 53, 54, 64, 90]))
        if kind < 3:
            return chance.choice([0.5, -1e300, 1.2345678901234567e-12, 12345678901234567.5, 1 / 3])
        if kind < 5:
            return chance.choice(words)
        if kind == 5:
            return chance.choice([True, False, None])
        if kind == 6:
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        return {f"{chance.choice(words)}{place}": value(depth - 1) for place in range(chance.randrange(4))}

    page = window(address).open()
    texts = [json.dumps(value(4), ensure_ascii=chance.random() < 0.5) for _ in range(300)]
    again = page.evaluate(
        "async texts => { const {parse, stringify} = await import('/web/net/exact.js');"
        " return texts.flatMap(text => [stringify(parse(text)), JSON.stringify(parse(text))]) }", texts
    )  # fmt: skip
    assert [json.loads(text) for text in again] == [json.loads(text) for text in texts for _ in range(2)]
    assert any(len(found) > 16 for text in texts for found in re.findall(r"\d+", text))


def test_a_typed_sum_is_counted_and_nonsense_is_none(address, window):
    page = window(address).open()
    cases = {
        "512*2": 1024, "1/4": 0.25, "2^3^2": 512, "-2**2": -4, "(1+2)*3": 9, ".5e1": 5, "7%4": 3, "1+-1": 0,
        "0.1+0.2": 0.3, "": None, "1+": None, "(1": None, "1/0": None, "alert(1)": None, "1 2": None, "0x10": None,
    }  # fmt: skip
    found = page.evaluate(
        "async texts => { const {evaluate} = await import('/web/widgets/numbers.js'); return texts.map(evaluate) }",
        list(cases),
    )
    assert dict(zip(cases, found, strict=True)) == cases


def test_a_step_stays_within_every_kind_of_limit(address, window):
    page = window(address).open()
    assert page.evaluate("""async () => {
      const { moved, read, nextSeed } = await import('/web/widgets/numbers.js');
      const int = { name: 'n', port: 'INT', min: 8, max: 64, multiple_of: 8 };
      const float = { name: 'x', port: 'FLOAT', exclusive_min: 0, max: 1, step: 0.1, round: 0.01 };
      const seed = { name: 'seed', port: 'INT', min: 0, max: 18446744073709551615n };
      return [
        moved(int, 16, 1), moved(int, 16, 100), moved(int, 16, -100), moved(float, 0.3, -9),
        moved(float, 0.3, 0.1, 0.1),
        read(int, '20').why, read(int, '8.5').why, read(float, '0').why, read(float, '0.126').value,
        String(moved(seed, 18446744073709551614n, 1)), String(nextSeed(seed, 18446744073709551615n, 'increment')),
        String(nextSeed(seed, 0, 'decrement')), nextSeed({ ...seed, min: 3, max: 3 }, 9, 'random'),
      ];
    }""") == [
        24, 64, 8, 0.1, 0.31, "20 is no multiple of 8; 16 and 24 are", "8.5 is not a whole number",
        "0 is too small: above 0, at most 1", 0.13, str(LARGEST), "0", str(LARGEST), 3,
    ]  # fmt: skip


def test_a_place_between_limits_is_shown_only_where_it_can_be_seen(address, window):
    page = window(address).open()
    assert page.evaluate("""async () => {
      const { partOf, stepsAcross } = await import('/web/widgets/numbers.js');
      const slider = { name: 'x', port: 'INT', min: 0, max: 5000, step: 50, display: 'slider' };
      return [
        partOf({ name: 'denoise', port: 'FLOAT', min: 0, max: 1 }, 0.6),
        partOf({ name: 'steps', port: 'INT', min: 1, max: 10000 }, 20),
        partOf({ name: 'strength', port: 'FLOAT', min: -100, max: 100 }, 1),
        partOf({ name: 'x', port: 'INT', min: 0 }, 1),
        partOf(slider, 1250), stepsAcross(slider),
      ];
    }""") == [0.6, None, None, None, 0.25, 100]


def test_the_weight_of_words_in_a_prompt_goes_up_and_down(address, window):
    page = window(address).open()
    cases = [
        ("a red cat", 3, 3, 1, "a (red:1.05) cat"), ("a (red:1.05) cat", 4, 4, -1, "a red cat"),
        ("a red cat", 2, 9, -1, "a (red cat:0.95)"), ("a (red cat:0.95)", 3, 10, -1, "a (red cat:0.9)"),
        ("(a)(b)", 0, 6, 1, "((a)(b):1.05)"), ("(red)", 2, 2, 1, "(red:1.15)"),
        ("a \\(b\\) c", 0, 1, 1, "(a:1.05) \\(b\\) c"),
        ("red ", 0, 4, 1, "(red:1.05) "), (" , ", 1, 1, 1, None),
    ]  # fmt: skip
    found = page.evaluate(
        """async cases => { const { weighed } = await import('/web/widgets/weights.js');
        return cases.map(([text, start, end, sign]) => { const change = weighed(text, start, end, sign);
          return change && text.slice(0, change.from) + change.insert + text.slice(change.to) }) }""",
        [list(case[:4]) for case in cases],
    )
    assert found == [case[4] for case in cases]


def test_the_largest_seed_is_shown_saved_and_run_as_it_is(address, canvas):
    from playwright.sync_api import expect

    opened = canvas(NOISE, "noise")
    page = opened.page
    expect(page.get_by_role("spinbutton", name="seed", exact=True)).to_have_value(str(LARGEST))
    strength = page.get_by_role("spinbutton", name="strength", exact=True)
    strength.fill("0.25")
    strength.press("Enter")
    page.keyboard.press("Control+s")
    wait_until(
        page, "async () => (await (await fetch('/v1/workflows/noise')).json()).nodes['2'].inputs.strength === 0.25"
    )
    assert fetched(address, "/v1/workflows/noise")["nodes"]["2"]["inputs"]["seed"] == LARGEST
    with page.expect_response("**/v1/runs") as answer:
        page.keyboard.press("Control+Enter")
    run = answer.value.json()["id"]
    assert fetched(address, f"/v1/runs/{run}/workflow")["nodes"]["2"]["inputs"]["seed"] == LARGEST
    expect(page.locator("img.node-picture")).to_be_visible()


def test_a_drag_changes_a_number_in_one_step_of_undo_and_leaves_the_node_where_it_is(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    node = page.locator('.react-flow__node[data-id="1"]')
    before = node.get_attribute("style")
    pull(page, steps_of(page), 30)
    expect(steps_of(page)).to_have_value("30")
    pull(page, steps_of(page), 30, "Shift")
    expect(steps_of(page)).to_have_value("130")
    cfg = page.get_by_role("spinbutton", name="cfg", exact=True)
    pull(page, cfg, -30, "Control")
    expect(cfg).to_have_value("7.4")
    place = re.compile(r"translate\([^)]*\)")
    assert place.findall(node.get_attribute("style")) == place.findall(before)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(cfg).to_have_value("7.5")
    expect(steps_of(page)).to_have_value("30")
    page.keyboard.press("Control+z")
    expect(steps_of(page)).to_have_value("20")


def test_a_number_is_typed_stepped_and_reset_by_keys(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    steps = steps_of(page)
    steps.click()
    page.keyboard.type("8*4")
    page.keyboard.press("Enter")
    expect(steps).to_have_value("32")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowDown")
    expect(steps).to_have_value("23")
    page.keyboard.press("Delete")
    page.keyboard.press("Enter")
    expect(steps).to_have_value("20")
    page.keyboard.type("25")
    page.keyboard.press("Escape")
    expect(steps).to_have_value("20")
    expect(page.locator('.react-flow__node[data-id="1"]')).to_be_visible()


def test_a_number_beyond_its_limits_stays_with_the_reason_and_the_document_keeps_the_old_one(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    steps = steps_of(page)
    steps.fill("20000")
    steps.press("Tab")
    expect(steps).to_have_attribute("aria-invalid", "true")
    assert message(steps) == "20000 is too large: 1 to 10000"
    expect(steps).to_have_value("20000")
    steps.focus()
    page.keyboard.press("Escape")
    expect(steps).to_have_value("20")
    expect(steps).not_to_have_attribute("aria-invalid", "true")


def test_the_wheel_changes_only_the_number_that_has_the_focus(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    cfg = page.get_by_role("spinbutton", name="cfg", exact=True)
    steps_of(page).focus()
    steps_of(page).hover()
    page.mouse.wheel(0, -100)
    expect(steps_of(page)).to_have_value("21")
    cfg.hover()
    page.mouse.wheel(0, -100)
    expect(cfg).to_have_value("7.5")
    expect(steps_of(page)).to_have_value("21")


def test_a_seed_says_before_the_run_that_it_is_drawn_and_after_it_what_was_drawn(address, canvas):
    from playwright.sync_api import expect

    opened = canvas({**NOISE, "2": {**NOISE["2"], "inputs": {**NOISE["2"]["inputs"], "seed": 5}}}, "drawn")
    page = opened.page
    seed = page.get_by_role("spinbutton", name="seed", exact=True)
    mode = page.get_by_role("button", name=re.compile("^seed is"))
    expect(mode).to_have_accessible_name(re.compile("fixed"))
    page.get_by_role("button", name="new random seed").click()
    expect(seed).not_to_have_value("5")
    mode.click()
    expect(mode).to_have_text("random")
    thrown = seed.input_value()
    with page.expect_response("**/v1/runs") as answer:
        page.keyboard.press("Control+Enter")
    expect(seed).not_to_have_value(thrown)
    sent = fetched(address, f"/v1/runs/{answer.value.json()['id']}/workflow")["nodes"]["2"]["inputs"]["seed"]
    expect(seed).to_have_value(str(sent))
    mode.click()
    expect(mode).to_have_text("+1")
    with page.expect_response("**/v1/runs"):
        page.keyboard.press("Control+Enter")
    expect(seed).to_have_value(str(sent + 1))


def test_one_of_many_is_found_by_typing_and_taken_by_a_key(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    button = page.get_by_role("button", name=re.compile("^sampler_name"))
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="search sampler_name")).to_be_focused()
    page.keyboard.type("unipcbh")
    expect(page.get_by_role("listbox").get_by_role("option")).to_have_text(["uni_pc_bh2"])
    page.keyboard.press("Enter")
    expect(button).to_have_text("uni_pc_bh2")
    expect(button).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_have_count(0)
    expect(button).to_be_focused()
    page.get_by_role("combobox", name="scheduler").select_option("karras")
    page.get_by_role("button", name=re.compile("^sampler_name")).press("Delete")
    expect(button).to_have_text("euler")


def test_thousands_of_choices_are_listed_by_the_few_in_view(address, window):
    from playwright.sync_api import expect

    page = window(address).open()
    page.evaluate("""async () => {
      const { createRoot, html } = await import('/web/vendor/flow.js');
      const { SearchList } = await import('/web/widgets/list.js');
      const names = Array.from({ length: 2000 }, (_, at) => `folder/name ${at}.safetensors`);
      const root = document.body.appendChild(document.createElement('div'));
      const take = name => { document.title = name };
      createRoot(root).render(html`<${SearchList} anchor=${root} label="names" names=${names} onPick=${take} />`);
    }""")
    options = page.get_by_role("listbox").get_by_role("option")
    expect(options.first).to_be_visible()
    assert options.count() < 40
    page.get_by_role("combobox", name="search names").fill("1987")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.title === 'folder/name 1987.safetensors'")


def test_a_file_that_is_not_there_stays_and_the_nearest_is_offered(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    button = page.get_by_role("button", name=re.compile("^ckpt_name"))
    expect(button).to_have_text("old/startr.safetensors")
    expect(button).to_have_attribute("aria-invalid", "true")
    assert "not there: put it into models/checkpoints or choose another; starter.safetensors is near" in message(button)
    button.click()
    page.get_by_role("paragraph").filter(has_text="Near to").get_by_role("button").click()
    expect(button).to_have_text("starter.safetensors")
    expect(button).not_to_have_attribute("aria-invalid", "true")


def test_a_prompt_is_typed_in_its_middle_weighed_and_completed(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    prompt = page.get_by_role("textbox", name="text", exact=True)
    prompt.click()
    page.keyboard.press("Control+Home")
    page.keyboard.type("not ")
    expect(prompt).to_have_value("not a red cat")
    page.keyboard.press("Control+Shift+End")
    page.keyboard.press("Control+ArrowUp")
    page.keyboard.press("Control+ArrowUp")
    expect(prompt).to_have_value("not (a red cat:1.1)")
    page.keyboard.press("Control+ArrowDown")
    page.keyboard.press("Control+ArrowDown")
    expect(prompt).to_have_value("not a red cat")
    page.keyboard.press("Control+End")
    page.keyboard.type(", embedding:lim")
    expect(page.get_by_role("listbox", name="embeddings").get_by_role("option")).to_have_text("starter-lime")
    page.keyboard.press("Enter")
    expect(prompt).to_have_value(re.compile("cat, embedding:starter-lime$"))
    expect(page.get_by_role("listbox", name="embeddings")).to_have_count(0)


def test_a_value_of_any_type_stays_json(address, canvas):
    from playwright.sync_api import expect

    page = canvas(name="any").page
    on_true, on_false = (page.get_by_role("textbox", name=name, exact=True) for name in ("on_true", "on_false"))
    expect(on_true).to_have_value('{"a":[1,2]}')
    expect(on_false).to_have_value('"5"')
    on_true.fill("[18446744073709551615]")
    on_false.fill("words")
    page.keyboard.press("Control+s")
    wait_until(
        page, "async () => (await (await fetch('/v1/workflows/any')).json()).nodes['8'].inputs.on_false === 'words'"
    )
    inputs = fetched(address, "/v1/workflows/any")["nodes"]["8"]["inputs"]
    assert inputs == {"condition": False, "on_true": {"__value__": [LARGEST]}, "on_false": "words"}


def test_a_switch_and_a_colour_are_changed_and_a_label_pressed_twice_brings_the_default_back(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    switch = page.get_by_role("switch", name="condition")
    switch.press("Space")
    expect(switch).to_be_checked()
    color = page.get_by_label("color", exact=True)
    expect(color).to_have_value("#0000ff")
    color.fill("#ff8000")
    expect(page.get_by_text("#ff8000")).to_be_visible()
    page.locator('[data-id="7"] [data-input=color] label').dblclick()
    expect(color).to_have_value("#000000")


def test_a_linked_field_says_where_its_value_comes_from(canvas):
    from playwright.sync_api import expect

    page = canvas().page
    link = page.get_by_role("button", name="width is linked from Width · INT: show it")
    link.click()
    expect(page.locator('.react-flow__node[data-id="4"]')).to_have_class(re.compile("selected"))


def test_a_picture_is_brought_by_a_button_and_by_a_drop_anywhere_on_its_node(canvas):
    from playwright.sync_api import expect

    opened = canvas()
    page = opened.page
    loader = opened.node("Load Image")
    loader.get_by_label("upload a picture for image").set_input_files(picture("red"))
    expect(loader.get_by_alt_text("red.png")).to_be_visible()
    page.wait_for_function("() => document.querySelector('.picture-image').naturalWidth === 40")
    given = page.evaluate_handle(
        """bytes => {
          const found = new DataTransfer();
          found.items.add(new File([new Uint8Array(bytes)], 'blue.png', { type: 'image/png' }));
          return found;
        }""",
        list(picture("blue")["buffer"]),
    )
    loader.locator("header").dispatch_event("drop", {"dataTransfer": given})
    expect(loader.get_by_alt_text("blue.png")).to_be_visible()
    loader.get_by_role("button", name=re.compile("^image")).click()
    page.get_by_role("option", name="red.png").click()
    expect(loader.get_by_alt_text("red.png")).to_be_visible()
    loader.get_by_role("button", name="Edit mask").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_dropped_file_that_is_no_picture_is_refused_in_words(address, canvas):
    from playwright.sync_api import expect

    opened = canvas()
    loader = opened.node("Load Image")
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    loader.get_by_label("upload a picture for image").set_input_files(broken)
    expect(loader.locator(".field-message")).to_contain_text("picture")
    opened.wrong.clear()  # the browser tells of the refusal, too
