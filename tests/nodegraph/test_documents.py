"""Workflows where they lie: files, pictures, names in the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nodegraph.documents import checked_json, comfy_graph, from_picture, from_text, metadata_of, open_document
from nodegraph.errors import FileProblem, WorkflowError
from nodegraph.workflow import Workflow
from tests.nodegraph.trivial import REGISTRY, n

API = {"d": n("DivMod", a=5), "3": n("Add", a=("d", "remainder"), b=2)}
OURS = {"nodegraph": 1, "name": "mine", "nodes": API}
EDITOR = {
    "nodes": [
        {"id": 3, "type": "Add", "inputs": [{"name": "a", "link": 1}], "widgets_values": [0, 2]},
        {"id": 4, "type": "DivMod", "widgets_values": [5]},
    ],
    "links": [[1, 4, 1, 3, 0, "INT"]],
}


def picture(path: Path, **texts: Any) -> Path:
    found = PngInfo()
    for name, value in texts.items():
        found.add_text(name, value if isinstance(value, str) else json.dumps(value))
    Image.new("RGB", (2, 2)).save(path, pnginfo=found)
    return path


def test_a_picture_of_ours_carries_the_whole_document(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", prompt=API, workflow=OURS)
    assert from_picture(path).as_json() == OURS
    assert open_document(path).workflow.name == "mine"
    assert open_document(str(path)).origin == str(path)


def test_a_document_under_its_own_name_goes_before_what_else_a_picture_carries(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", prompt={"1": n("Const")}, workflow=EDITOR, nodegraph=OURS)
    assert from_picture(path).as_json() == OURS
    path = picture(tmp_path / "b.png", prompt=API, workflow=EDITOR, nodegraph="not ours")
    assert from_picture(path).api() == API
    path = picture(tmp_path / "c.png", nodegraph={**OURS, "name": "new"}, workflow={**OURS, "name": "old"})
    assert from_picture(path).name == "new"


def test_the_nodes_as_comfyui_has_them_link_by_number_where_the_slot_is_known() -> None:
    graph = {
        "d": n("DivMod", a=5), "u": n("Unknown"), "1": n("Add", a=("d", "remainder"), b=("d", 0)),
        "2": n("Add", a=("d", "nonsense"), b=("u", "out")), "3": n("Echo", value=["d", "remainder", 1]),
        "4": n("Join", a="d", b=("gone", "out")),
    }  # fmt: skip
    workflow = Workflow.of({"nodegraph": 1, "nodes": graph})
    found = comfy_graph(workflow, REGISTRY.get)
    assert found["1"]["inputs"] == {"a": ["d", 1], "b": ["d", 0]}
    assert found["2"]["inputs"] == {"a": ["d", "nonsense"], "b": ["u", "out"]}
    assert found["3"]["inputs"] == {"value": ["d", "remainder", 1]}
    assert found["4"]["inputs"] == {"a": "d", "b": ["gone", "out"]}
    assert workflow.api()["1"]["inputs"]["a"] == ["d", "remainder"]  # the document is as it was
    assert set(metadata_of(workflow, REGISTRY.get)) == {"prompt", "nodegraph"}


@pytest.mark.parametrize("length", [0, 5, 14])
def test_a_picture_with_a_broken_header_is_told(tmp_path: Path, length: int) -> None:
    path = picture(tmp_path / "a.png", prompt=API)
    content = bytearray(path.read_bytes())
    content[8:12] = length.to_bytes(4, "big")  # of the first chunk
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=r"a\.png is not a picture that can be read: "):
        from_picture(path)


def test_a_picture_of_comfyuis_gives_its_prompt(tmp_path: Path) -> None:
    assert from_picture(picture(tmp_path / "a.png", prompt=API, workflow=EDITOR)).api() == API
    assert from_picture(picture(tmp_path / "b.png", prompt=API, workflow="not json")).api() == API
    assert from_picture(picture(tmp_path / "c.png", prompt=API, workflow="[" * 50_000)).api() == API


def test_a_file_of_comfyuis_editor_opens_and_so_does_a_picture_that_has_nothing_else(tmp_path: Path) -> None:
    graph = {"3": n("Add", a=("4", 1), b=2), "4": n("DivMod", a=5)}
    (tmp_path / "a.json").write_text(json.dumps(EDITOR))
    assert open_document(tmp_path / "a.json", registry=REGISTRY).workflow.api() == graph
    path = picture(tmp_path / "b.png", workflow=EDITOR)
    assert open_document(path, registry=REGISTRY).workflow.api() == graph
    assert from_text(json.dumps(EDITOR), REGISTRY).api() == graph
    with pytest.raises(WorkflowError, match="node 3: type: Field required"):
        from_picture(picture(tmp_path / "c.png", workflow={"nodes": [{"id": 3}]}))
    with pytest.raises(WorkflowError, match="not JSON at line 1"):
        from_picture(picture(tmp_path / "d.png", workflow="{"))


def test_the_nodes_of_an_editors_file_are_those_of_entry_points_by_default(tmp_path: Path) -> None:
    latent = {"id": 1, "type": "EmptyLatentImage", "widgets_values": [64, 32, 2]}
    (tmp_path / "a.json").write_text(json.dumps({"nodes": [latent]}))
    found = open_document(tmp_path / "a.json").workflow.api()
    assert found == {"1": n("EmptyLatentImage", width=64, height=32, batch_size=2)}


def test_an_animation_carries_its_workflow_in_exif_entries(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps({"1": {"class_type": "A", "inputs": {"colon": "a:b"}}})
    exif[0x010F] = "something else"
    Image.new("RGB", (2, 2)).save(tmp_path / "a.webp", exif=exif)
    assert open_document(tmp_path / "a.webp").workflow.nodes["1"].inputs == {"colon": "a:b"}


def test_what_a1111_wrote_opens_from_every_kind_of_file(tmp_path: Path) -> None:
    text = "a café, <lora:ink:0.5>\nSteps: 4, Sampler: Euler a, Seed: 7, Size: 64x64, Model: tiny"
    names = {"checkpoints": ["tiny.ckpt"], "loras": ["Ink.pt"]}
    picture(tmp_path / "a.png", parameters=text)
    for name, head, encoding in (
        ("b.jpg", b"UNICODE\0", "utf-16-be"), ("c.webp", b"UNICODE\0", "utf-16-le"), ("d.jpg", b"", "utf-8"),
    ):  # fmt: skip
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = head + text.encode(encoding)
        Image.new("RGB", (2, 2)).save(tmp_path / name, exif=exif)
    (tmp_path / "e.txt").write_text(text, "utf-8")
    for path in sorted(tmp_path.iterdir()):
        found = open_document(path, registry=REGISTRY, names=lambda kind: names.get(kind, []))
        nodes = found.workflow.nodes
        assert nodes["6"].inputs["text"] == "a café,", path.name
        assert nodes["4"].inputs["ckpt_name"] == "tiny.ckpt" and nodes["10"].inputs["lora_name"] == "Ink.pt"
        assert len(found.notes) == 1 and found.origin == str(path)


def test_a_workflow_goes_before_what_a1111_wrote(tmp_path: Path) -> None:
    text = "a\nSteps: 4, Seed: 7"
    assert from_picture(picture(tmp_path / "a.png", prompt=API, parameters=text)).api() == API
    assert from_picture(picture(tmp_path / "b.png", workflow=OURS, parameters=text)).as_json() == OURS
    with pytest.raises(FileProblem, match="carries no workflow"):
        from_picture(picture(tmp_path / "c.png", parameters='{"prompt": "of another program"}'))


def test_what_a_run_writes_into_pictures_is_read_again(tmp_path: Path) -> None:
    texts = metadata_of(Workflow.of(OURS), REGISTRY.get)
    assert from_picture(picture(tmp_path / "a.png", **texts)).as_json() == OURS
    prompt = from_picture(picture(tmp_path / "b.png", prompt=texts["prompt"])).api()
    assert prompt["3"]["inputs"]["a"] == ["d", 1]  # ComfyUI knows slots by number alone


def test_pictures_without_a_workflow_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="carries no workflow"):
        from_picture(picture(tmp_path / "a.png"))
    Image.new("RGB", (2, 2)).save(tmp_path / "b.jpg")
    with pytest.raises(FileProblem, match="carries no workflow"):
        open_document(tmp_path / "b.jpg")
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(FileProblem, match="is not a picture that can be read"):
        open_document(tmp_path / "c.png")
    whole = picture(tmp_path / "d.png", prompt=API).read_bytes()
    (tmp_path / "d.png").write_bytes(whole[:40])
    with pytest.raises(FileProblem, match=r"d\.png"):
        open_document(tmp_path / "d.png")
    with pytest.raises(WorkflowError, match="not JSON at line 1"):
        from_picture(picture(tmp_path / "e.png", prompt="{"))


def test_names_are_looked_up_in_the_library_in_order(tmp_path: Path) -> None:
    for folder, name in [("one", "a"), ("two", "a"), ("two", "deep/b")]:
        path = tmp_path / folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**OURS, "name": folder}))
    library = [tmp_path / "one", tmp_path / "two", tmp_path / "none"]
    assert open_document("a", library).workflow.name == "one"
    assert open_document("deep/b.json", library).workflow.name == "two"
    with pytest.raises(FileProblem, match="there is no workflow 'deep/c'; did you mean 'deep/b'"):
        open_document("deep/c", library)
    with pytest.raises(FileProblem, match="the library has a, deep/b"):
        open_document("zzzzz", library)
    with pytest.raises(FileProblem, match="the library is empty"):
        open_document("a")
    with pytest.raises(FileProblem, match="is a folder"):
        open_document(tmp_path / "one")


def test_json_of_the_command_line_is_told_with_its_place() -> None:
    assert checked_json('{"a": 1}') == {"a": 1}
    with pytest.raises(WorkflowError, match="not JSON at line 1, column 2"):
        checked_json("{")
