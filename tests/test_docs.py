"""What README.md and docs/ show is true: documents check, code runs, commands parse, links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import nodegraph
from nodegraph.cli import main
from nodegraph.cli.codes import MISSING, OK, USAGE
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PICTURE = ROOT / "docs" / "images" / "starter.png"
PLACEHOLDER = re.compile(r"^[A-Z]+$|^/path/|\$\(")  # NAME, /path/to/..., $(...): for the reader to fill in
MENTIONED = (["run"], ["plan"], ["check"], ["inputs"], ["models", "hash"])  # in running text, without their workflow


def blocks(language: str) -> list:
    found = []
    for page in PAGES:
        parts = re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        found += [pytest.param(part, id=f"{page.stem}-{number}") for number, part in enumerate(parts, 1)]
    return found


def commands() -> list:
    """Every command that begins with `nodegraph`, in a shell block or in running text."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found.update(dict.fromkeys(part.strip() for part in re.split(r"&&|;", line)))
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        found.update(dict.fromkeys(" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)))
    lines = [line for line in found if re.match(r"nodegraph (-|[a-z])", line) and "VERB" not in line]
    return [pytest.param(line, id=line) for line in lines]


def is_workflow(document: object) -> bool:
    if not isinstance(document, dict):
        return False
    return "nodegraph" in document or all(isinstance(node, dict) and "class_type" in node for node in document.values())


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A data folder whose library has the workflows that the pages show."""
    home = tmp_path_factory.mktemp("home")
    (home / "workflows").mkdir()
    for block in blocks("json"):
        document = json.loads(block.values[0])
        if is_workflow(document) and document.get("name"):
            (home / "workflows" / f"{document['name']}.json").write_text(block.values[0])
    return home


@pytest.fixture
def place(home, tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder to run things in, with a data folder of its own."""
    monkeypatch.setenv("NODEGRAPH_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    nodegraph._session.cache_clear()
    yield tmp_path
    if nodegraph._session.cache_info().currsize:
        nodegraph._session().close()
        nodegraph._session.cache_clear()


@pytest.fixture(scope="module")
def session(home) -> Iterator[Session]:
    with Session(Settings(home=home, device="cpu")) as session:
        yield session


@pytest.mark.parametrize("block", blocks("json"))
def test_a_json_block_is_json_and_a_workflow_has_no_problems(block, place, capsys):
    if is_workflow(json.loads(block)):
        Path("block.json").write_text(block)
        assert main(["check", "block.json"]) == OK, capsys.readouterr()


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_runs(block, place):
    if "@node(" in block:
        Path("my_nodes").mkdir()
        Path("my_nodes", "block.py").write_text(block)
        registry = Registry().with_folder("my_nodes")
        assert not registry.failures
        assert registry.specs
    else:
        exec(compile(block, "block", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("line", commands())
def test_a_command_is_understood(line, place, capsys):
    words = shlex.split(re.split(r"\s(?:#|>|\|)\s?", line)[0])[1:]
    if words in MENTIONED:
        words.append("--help")
    _make_files(words)
    if words[0] == "run" and "--help" not in words:
        words.append("--dry-run")
    code = main(words)
    found = capsys.readouterr()
    if any(PLACEHOLDER.search(word) for word in words):
        assert code in (OK, USAGE, MISSING), found
        assert "option" not in found.err or code != USAGE, found
    else:
        assert code == OK, found


def _make_files(words: list[str]) -> None:
    """The files a command names: pictures, folders, values; and any other workflow as a bare API graph."""
    for before, word in pairwise(words):
        path = Path(word)
        if path.is_absolute() or path.exists() or PLACEHOLDER.search(word):
            continue
        if before == "--node-path":
            path.mkdir()
        elif word.startswith("@"):
            Path(word[1:]).write_text("a large red cone")
        elif before == "--inputs":
            path.write_text("{}")
        elif path.suffix == ".json":
            shutil.copyfile(ROOT / "workflows" / "comfyui_api.json", path)
        elif path.suffix == ".png" and before == words[0]:
            _picture_with_a_workflow(path)
        elif path.suffix == ".png":
            shutil.copyfile(PICTURE, path)


def _picture_with_a_workflow(path: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("prompt", (ROOT / "workflows" / "comfyui_api.json").read_text("utf-8"))
    with Image.open(PICTURE) as picture:
        picture.save(path, pnginfo=texts)


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_a_workflow_of_the_library_has_no_problems(path, place, capsys):
    assert main(["check", path.stem]) == OK, capsys.readouterr()


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_a_workflow_of_the_library_is_saved_as_it_is(path, session):
    text = path.read_text("utf-8")
    workflow = session.open(path).workflow
    if "nodegraph" in json.loads(text):
        assert workflow.dumps() == text
    else:
        assert workflow.api() == json.loads(text)


def test_the_gallery_runs_the_drawing_twice(session):
    document = session.open("gallery")
    running = session.submit(session.prepare(document.workflow.with_inputs({"seed": 1})))
    assert running.wait().status == "success"
    drawn = {"4", "6", "7", "5", "3", "8"}
    made = {*running.ran, *running.cached}
    assert {f"1:{name}" for name in drawn} | {f"2:{name}" for name in drawn} == made - {"3", "4"}


def test_a_repeated_workflow_runs_as_often_as_asked(session):
    document = session.open("smaller_and_smaller")
    running = session.submit(session.prepare(document.workflow.with_inputs({"times": 2})))
    assert running.wait().status == "success"
    assert [name for name in running.ran if name.startswith("2.")] == ["2.0:1", "2.1:1"]


def test_the_reference_of_the_nodes_is_up_to_date():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    page = reference.PAGE.read_text("utf-8")
    assert reference.with_reference(page) == page, "run python docs/reference.py"


def test_the_design_names_every_module():
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)/?`", page))
    for folder in ("nodegraph", "nodes", "nodes/diffusion"):
        modules = {path.stem for path in (ROOT / folder).glob("*.py")}
        assert modules - {"__init__", "__main__"} <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_relative_link_leads_somewhere(page):
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for link in links:
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, link
