"""What README.md and docs/ show is true: documents check, code runs, commands parse, links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count, pairwise, repeat
from pathlib import Path

import pytest
import yaml

import nodegraph
from nodegraph.cli import main
from nodegraph.cli.codes import MISSING, OK, USAGE
from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from server.backup import backup
from server.metrics import Metrics
from server.store import Store
from server.v1.table import OPERATIONS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PICTURE = ROOT / "docs" / "images" / "starter.png"
PLACEHOLDER = re.compile(r"^[A-Z]+$|^/path/|\$\(")  # NAME, /path/to/..., $(...): for the reader to fill in
MENTIONED = (["run"], ["plan"], ["check"], ["inputs"], ["models", "hash"], ["token", "add"], ["backup"], ["restore"])
"""In running text, without their workflow or file."""

SERVER = "http://127.0.0.1:8188"
API = "api"  # the page whose samples call a server


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
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a server at work, for the samples that call one."""
    home = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "nodegraph", "serve", "--port", "0", "--home", str(home), "--device", "cpu"]
    with open(home / "log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        first = process.stdout.readline()
        assert first.startswith("nodegraph serves "), (home / "log").read_text()
        yield first.split()[-1].rstrip("/")
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A folder with a certificate and its key, named as the examples have them."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=graph.example.org", "-keyout"]
    subprocess.run([*command, folder / "graph.key", "-out", folder / "graph.pem"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def session(home) -> Iterator[Session]:
    with Session(Settings(home=home, device="cpu")) as session:
        yield session


@pytest.mark.parametrize("block", blocks("json"))
def test_a_json_block_is_json_and_a_workflow_has_no_problems(block, place, capsys):
    if is_workflow(json.loads(block)):
        Path("block.json").write_text(block)
        assert main(["check", "block.json"]) == OK, capsys.readouterr()


@pytest.mark.parametrize("block", [block for block in blocks("python") if not block.id.startswith(f"{API}-")])
def test_a_python_block_runs(block, place):
    if "@node(" in block:
        Path("my_nodes").mkdir()
        Path("my_nodes", "block.py").write_text(block)
        registry = Registry().with_folder("my_nodes")
        assert not registry.failures
        assert registry.specs
    else:
        exec(compile(block, "block", "exec"), {"__name__": "block"})


@pytest.mark.parametrize("block", [block for block in blocks("python") if block.id.startswith(f"{API}-")])
def test_a_python_block_calls_a_server(block, server, place, capsys):
    exec(compile(block.replace(SERVER, server), "block", "exec"), {"__name__": "block"})
    assert capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("block", [block for block in blocks("sh") if block.id.startswith(f"{API}-")])
def test_a_shell_block_calls_a_server(block, server, place):
    shutil.copyfile(PICTURE, "picture.png")
    text = re.sub(r"\bcurl\b", "curl -w '\\n%{stderr}%{http_code} '", block.replace(SERVER, server))
    done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, check=True)
    refused = [code for code in done.stderr.split() if not code.startswith("2")]
    assert refused == (["422"] if "eulr" in block else []), done
    for name in re.findall(r"-o (\S+\.(?:png|webp))", block):
        assert Path(name).read_bytes()[:4] in (b"\x89PNG", b"RIFF"), done


@pytest.mark.parametrize("line", commands())
def test_a_command_is_understood(line, place, capsys, monkeypatch):
    words = shlex.split(re.split(r"\s(?:#|>|\|)\s?", line)[0])[1:]
    if words in MENTIONED:
        words.append("--help")
    monkeypatch.setattr("server.process.run", lambda settings, **_: None)  # what it would serve is read all the same
    _make_files(words)
    _make_server(words)
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


def _make_server(words: list[str]) -> None:
    """What a command about a server works on: its data folder, a backup, a token; paths to fill in lie here."""
    here = Path.cwd()
    words[:] = [word.replace("/path/to", str(here)) if words[0] != "serve" else word for word in words]
    home = here / "served"
    if words[0] in ("backup", "token") and "--help" not in words:
        words += ["--home", str(home)] if "--home" not in words else []
    if words[:2] == ["token", "revoke"]:
        assert main(["token", "add", words[2], "--home", str(home)]) == OK
    elif words[0] in ("backup", "restore"):
        Store(home / "server.sqlite").close()
    if words[0] == "restore" and "--help" not in words:
        backup(home, Path(words[1]))
        words += ["--home", str(home)] if "--home" not in words else []


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


def test_every_option_of_the_server_is_in_the_docs(place, capsys):
    text = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("cli.md", "operations.md"))
    for verb in ("serve", "token", "backup", "restore"):
        assert main([verb, "--help"]) == OK
        options = set(re.findall(r"(?<=\s)(--[a-z-]+)", capsys.readouterr().out)) - {"--help", "--quiet", "--verbose"}
        assert options
        assert [option for option in options if not re.search(rf"{option}(?![a-z-])", text)] == []


def test_every_metric_is_in_the_docs():
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(nodegraph_[a-z_]+)` \|", text, re.MULTILINE))
    families = [family for family in Metrics().registry.collect() if family.name.startswith("nodegraph_")]
    assert told == {family.name + ("_total" if family.type == "counter" else "") for family in families}


def test_every_operation_is_in_the_docs():
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    told = re.findall(r"^\| `([A-Z]+) (/v1/\S+)` \| ([a-z]+) \|", text, re.MULTILINE)
    there = [(one.method, re.sub(r":[^}]+}", "}", one.path), one.scope) for one in OPERATIONS]
    assert sorted(told) == sorted(there)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("block", blocks("nginx"))
def test_nginx_takes_its_example(block, certificate, tmp_path):
    sockets = map("unix:{}/{}".format, repeat(tmp_path), count())  # ports may be taken, or not be ours to take
    text = re.sub(r"(?<=listen )[^ ;]+", lambda _: next(sockets), block.replace("/etc/ssl", str(certificate)))
    places = "".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi"))
    places += "".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("uwsgi", "scgi"))
    file = tmp_path / "nginx.conf"
    file.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {places}\n{text}\n}}")
    done = subprocess.run(["nginx", "-t", "-c", file, "-p", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
@pytest.mark.parametrize("block", blocks("caddy"))
def test_caddy_takes_its_example(block, tmp_path):
    (tmp_path / "Caddyfile").write_text(block)
    places = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    command = ["caddy", "adapt", "--validate", "--config", "Caddyfile", "--adapter", "caddyfile"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **places}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_yaml_block_is_yaml(block):
    assert isinstance(yaml.safe_load(block), dict)


@pytest.mark.parametrize("block", blocks("ini"))
def test_a_unit_starts_a_server_that_understands_its_options(block, place, monkeypatch):
    monkeypatch.setattr("server.process.run", lambda settings, **_: None)
    line = next(line for line in block.splitlines() if line.startswith("ExecStart="))
    assert main(shlex.split(line)[1:]) == OK
    assert "KillMode=mixed" in block


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
