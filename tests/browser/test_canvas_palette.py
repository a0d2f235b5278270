"""Adding nodes, menus and the pointer."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def address(serve):
    return serve()


def _middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def _drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


def _add(page, place, title):
    """Adds a node with the mouse: a double click, and a click on its name."""
    page.mouse.dblclick(*place)
    page.get_by_role("combobox", name="Add a node").fill(title)
    page.get_by_role("option").filter(has=page.get_by_text(title, exact=True)).click()
    page.wait_for_selector("dialog", state="detached")
    return page.locator(".react-flow__node.selected")


def _port(node, handle):
    return node.locator(f".port[data-handleid='{handle}']")


def _id(node):
    return node.page.locator(f".react-flow__node[data-id='{node.get_attribute('data-id')}']")


def _set(node, name, value):
    field = node.get_by_label(name, exact=True)
    field.fill(value)
    field.press("Enter")


def test_a_graph_from_text_to_image_is_made_and_run_with_the_mouse(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.empty()
    places = {
        "model": ((40, 120), "Load Checkpoint"), "prompt": ((250, 90), "CLIP Text Encode (Prompt)"),
        "negative": ((250, 300), "CLIP Text Encode (Prompt)"), "size": ((250, 520), "Empty Latent Image"),
        "sampler": ((470, 120), "KSampler"), "decode": ((690, 120), "VAE Decode"), "save": ((900, 120), "Save Image"),
    }  # fmt: skip
    nodes = {name: _id(_add(page, place, title)) for name, (place, title) in places.items()}
    for node, handle, other, end in [
        ("model", "out:0", "sampler", "in:model"), ("model", "out:1", "prompt", "in:clip"),
        ("model", "out:1", "negative", "in:clip"), ("model", "out:2", "decode", "in:vae"),
        ("prompt", "out:0", "sampler", "in:positive"), ("negative", "out:0", "sampler", "in:negative"),
        ("size", "out:0", "sampler", "in:latent_image"), ("sampler", "out:0", "decode", "in:samples"),
        ("decode", "out:0", "save", "in:images"),
    ]:  # fmt: skip
        _drag(page, _middle(_port(nodes[node], handle)), _middle(_port(nodes[other], end)))
    expect(page.locator(".react-flow__edge")).to_have_count(9)
    _set(nodes["size"], "width", "128")
    _set(nodes["size"], "height", "128")
    _set(nodes["sampler"], "steps", "2")
    page.get_by_role("button", name="Run Ctrl").click()
    expect(canvas.node("Save Image").locator("img.node-picture")).to_be_visible(timeout=60_000)


def test_a_wire_dropped_into_space_offers_what_fits_and_wires_it_under_the_pointer(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    wires = page.locator(".react-flow__edge").count()
    spot = (620, 640)
    _drag(page, _middle(_port(canvas.node("Sampler"), "out:0")), spot)
    field = page.get_by_role("combobox", name="Nodes that take latent")
    expect(field).to_be_focused()
    assert page.get_by_role("option").filter(has=page.get_by_text("Load Checkpoint", exact=True)).count() == 0
    field.fill("decode tiled")
    page.keyboard.press("Enter")
    expect(page.locator(".react-flow__edge")).to_have_count(wires + 1)
    x, y = _middle(_port(page.locator(".react-flow__node.selected"), "in:samples"))
    assert abs(x - spot[0]) < 3
    assert abs(y - spot[1]) < 3
    page.keyboard.press("Control+z")
    expect(page.locator(".react-flow__edge")).to_have_count(wires)


def test_a_wire_pulled_off_an_input_offers_what_gives_its_type(address, window):
    from playwright.sync_api import expect

    page = window(address).empty()
    node = _id(_add(page, (600, 300), "VAE Decode"))
    _drag(page, _middle(_port(node, "in:samples")), (300, 400))
    field = page.get_by_role("combobox", name="Nodes that give latent")
    expect(field).to_be_focused()
    field.fill("empty latent image")
    page.keyboard.press("Enter")
    expect(page.locator(".react-flow__edge")).to_have_count(1)


def test_what_was_added_last_is_offered_first(address, window):
    from playwright.sync_api import expect

    page = window(address).empty()
    _add(page, (300, 200), "Invert Image")
    _add(page, (300, 400), "VAE Decode")
    page.mouse.dblclick(700, 300)
    recent = page.get_by_role("group", name="Recent").get_by_role("option")
    expect(recent.first).to_contain_text("VAE Decode")
    expect(recent.nth(1)).to_contain_text("Invert Image")


def test_a_new_node_has_values_for_what_needs_one(address, window):
    page = window(address).empty()
    _add(page, (300, 200), "Load Checkpoint")
    found = page.evaluate("""async () => {
      const { valuesFor } = await import("/web/graph/adding.js");
      const { nodes, files } = await (await fetch("/v1/nodes?detail=true")).json();
      const of = (name) => valuesFor(nodes.find((spec) => spec.name === name), files);
      return [of("CheckpointLoaderSimple"), of("ImageScale"), of("CLIPTextEncode"), of("KSampler"), of("Switch")];
    }""")
    assert found == [
        {"ckpt_name": "starter.safetensors"}, {"upscale_method": "nearest-exact", "crop": "disabled"}, {"text": ""}, {},
        {"condition": False},
    ]  # fmt: skip


def test_search_finds_by_title_type_category_and_doc(address, window):
    page = window(address).open()
    found = page.evaluate("""async () => {
      const { searchNodes } = await import("/web/graph/search.js");
      const { nodes } = await (await fetch("/v1/nodes?detail=true")).json();
      const specs = { nodes: new Map(nodes.map((spec) => [spec.name, spec])), files: {}, failures: {} };
      const names = (query, ask) => searchNodes(specs, query, [], ask).map((spec) => spec.name);
      return { title: names("ksam")[0], type: names("CheckpointLoaderSimple")[0], none: names("zzqqxx"),
        taking: names("", { side: "from", type: "LATENT" }), giving: names("", { side: "to", type: "VAE" }) };
    }""")
    assert found["title"] == "KSampler"
    assert found["type"] == "CheckpointLoaderSimple"
    assert found["none"] == []
    assert found["taking"][0] == "KSampler"
    assert "VAEDecode" in found["taking"][:12]
    assert "LoadImage" not in found["taking"]
    assert found["giving"][0] == "CheckpointLoaderSimple"


def test_notes_and_groups_come_from_the_palette_too(address, window):
    from playwright.sync_api import expect

    page = window(address).open()
    page.mouse.dblclick(700, 700)
    page.get_by_role("option", name="Note text beside the nodes").click()
    expect(page.locator(".note textarea")).to_be_focused()
    page.keyboard.type("mind the seed")
    page.keyboard.press("Control+f")
    page.get_by_role("combobox", name="Find in the graph").fill("mind the")
    expect(page.get_by_role("dialog").get_by_role("option")).to_have_count(1)


def test_the_menu_of_a_node_is_worked_by_keys(address, window):
    from playwright.sync_api import expect

    canvas = window(address)
    page = canvas.open()
    node = canvas.node("Sampler")
    node.locator(".node-header").click(button="right")
    menu = page.get_by_role("menu", name="Node")
    expect(menu.get_by_role("menuitem").first).to_be_focused()
    page.keyboard.press("s")
    expect(menu.get_by_role("menuitem", name="Skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector(".node.is-skip[aria-label=Sampler]")
    expect(menu).to_have_count(0)
    node.locator(".node-header").click(button="right")
    page.get_by_role("menuitemradio", name="Colour: teal").click()
    page.wait_for_function(
        "() => document.querySelector('.node[aria-label=Sampler]').style.getPropertyValue('--node-color') === '#4cb5ae'"
    )
    node.locator(".node-header").click(button="right")
    page.get_by_role("menuitem", name="Rename").click()
    page.keyboard.type("My sampler")
    page.keyboard.press("Enter")
    expect(canvas.node("My sampler")).to_be_visible()
    canvas.node("My sampler").locator(".node-header").click(button="right")
    page.get_by_role("menuitem", name="Help").click()
    expect(page.get_by_role("dialog", name="KSampler")).to_contain_text("Denoise a latent")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_menu_of_a_wire_puts_a_reroute_on_it(address, window):
    from playwright.sync_api import expect

    page = window(address).open()
    wires = page.locator(".react-flow__edge")
    number = wires.count()
    middle = page.evaluate("""() => {
      const paths = [...document.querySelectorAll(".react-flow__edge path")];
      const path = paths.find((one) => one.closest(".react-flow__edge").dataset.id.endsWith(".samples"));
      const place = path.getPointAtLength(path.getTotalLength() / 2).matrixTransform(path.getScreenCTM());
      return [place.x, place.y];
    }""")
    page.mouse.click(*middle, button="right")
    page.get_by_role("menuitem", name="Add a reroute").click()
    expect(wires).to_have_count(number + 1)
    expect(page.locator(".reroute")).to_have_count(1)


def test_the_menu_of_the_canvas_adds_a_node_where_it_was_opened(address, window):
    from playwright.sync_api import expect

    page = window(address).open()
    page.mouse.click(300, 700, button="right")
    page.get_by_role("menu", name="Canvas").get_by_role("menuitem", name="Add a node").click()
    page.get_by_role("combobox", name="Add a node").fill("invert image")
    page.keyboard.press("Enter")
    node = page.locator(".react-flow__node.selected")
    expect(node).to_have_count(1)
    box = node.bounding_box()
    assert abs(box["x"] - 300) < 3
    assert abs(box["y"] - 700) < 3


def test_words_are_all_found_and_the_title_that_has_them_comes_first(address, window):
    page = window(address).open()
    first = """async (queries) => {
      const [{ searchNodes }, { app }] = await Promise.all([import("/web/graph/search.js"), import("/web/app.js")]);
      return queries.map((query) => searchNodes(app.specs, query)[0]?.name);
    }"""
    wanted = {
        "vae dec": "VAEDecode",
        "load check": "CheckpointLoaderSimple",
        "save img": "SaveImage",
        "lat upsc": "LatentUpscale",
        "ksamp": "KSampler",
    }
    assert dict(zip(wanted, page.evaluate(first, list(wanted)), strict=True)) == wanted


def test_a_model_is_used_by_the_loader_that_makes_most_of_it(address, window):
    page = window(address).empty()
    page.get_by_role("button", name="Models", exact=True).click()
    added = {}
    for kind in ("loras", "controlnet", "upscale_models"):
        page.get_by_label("Kind").select_option(kind)
        page.locator(".model").first.get_by_role("button", name="Use").click()
        added[kind] = page.locator(".react-flow__node.selected .node").get_attribute("aria-label")
    assert added == {
        "loras": "Load LoRA", "controlnet": "Load ControlNet Model", "upscale_models": "Load Upscale Model",
    }  # fmt: skip
