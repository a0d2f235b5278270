import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nodegraph.cli import main

NODES = '''
import errno
import time
from typing import Annotated, Any, Literal

from pydantic import Field

from nodegraph import Context, File, FileRef, Lazy, Port, node


@node("Number", category="test")
def number(*, value: Annotated[int, Field(ge=0, le=1000)] = 1) -> int:
    """A number.

    Args:
        value: Which one.
    """
    return value


@node("Add", category="test/maths")
def add(*, a: int, b: int = 0) -> int:
    """The sum of two numbers."""
    return a + b


@node("Seeded", category="test")
def seeded(*, seed: Annotated[int, Field(ge=0, le=100)] = 0) -> int:
    """Its seed."""
    return seed


@node("Phrase", category="test")
def phrase(
    *, text: str = "", mode: Literal["plain", "upper", "lower"] = "plain", loud: bool = False, scale: float = 1.0
) -> str:
    """A text, changed."""
    text = {"plain": str, "upper": str.upper, "lower": str.lower}[mode](text)
    return f"{text}{'!' if loud else ''} {scale}"


@node("ReadText", category="test")
def read_text(*, file: Annotated[FileRef, File("input")]) -> str:
    """The text of a file."""
    with open(file.path) as found:
        return found.read()


@node("Weights", category="test")
def weights(*, name: Annotated[FileRef, File("loras")]) -> str:
    """The name of a model."""
    return name.name


@node("SaveText", category="test", kind="sink", lane="io")
def save_text(*, ctx: Context, value: Any, prefix: str = "text") -> None:
    """Save a value as text."""
    ctx.save(prefix, "txt", lambda file: file.write(str(value).encode()) and None)


@node("Picture", category="test")
def picture(*, level: float = 0.5) -> Annotated[Any, Port("IMAGE")]:
    """An image [1, 2, 3, 3] of one grey."""
    return [[[[level] * 3] * 3] * 2]


@node("Choose", category="test")
async def choose(*, first: bool, a: Lazy[Any], b: Lazy[Any]) -> Any:
    """One of two, the other is not run."""
    return a if first else b


@node("Steps", category="test")
def steps(*, ctx: Context, count: int = 3) -> int:
    """Count some steps."""
    for step in range(count):
        ctx.step(step + 1, count)
    return count


@node("Picky", category="test")
def picky(*, ctx: Context, a: int = 0) -> int:
    """Say what it leaves out."""
    ctx.note(f"{a} of 9 tensors match nothing")
    return a


@node("Endless", category="test")
def endless(*, ctx: Context) -> int:
    """Step until the run is cancelled."""
    while True:
        ctx.step(1, 2)
        time.sleep(0.005)


@node("Stubborn", category="test")
def stubborn(*, ctx: Context) -> int:
    """Never stop."""
    ctx.step(1, 2)
    while True:
        time.sleep(0.005)


@node("Fails", category="test")
def fails(*, a: int = 0) -> int:
    """Raise."""
    raise ValueError(f"{a} is not a colour")


@node("Hungry", category="test")
def hungry(*, a: int = 0) -> int:
    """Ask for too much memory."""
    raise MemoryError("8 GB")


@node("FullDisk", category="test", kind="sink")
def full_disk(*, ctx: Context, value: Any) -> None:
    """Save to a disk that is full."""

    def write(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    ctx.save("text", "txt", write)
'''


def graph(**nodes):
    """`graph(n1=("Number", {"value": 1}))` -> nodes of a document, by the id after the `n`."""
    return {key[1:]: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


class Workplace:
    """A home, a folder of user nodes, and the command line in this process."""

    def __init__(self, root, capsys, monkeypatch):
        self.root, self._capsys, self._monkeypatch = root, capsys, monkeypatch
        self.home = root / "home"
        (root / "nodes").mkdir()
        (root / "nodes" / "trivial.py").write_text(NODES)
        monkeypatch.setenv("NODEGRAPH_HOME", str(self.home))
        monkeypatch.chdir(root)

    @property
    def common(self):
        return ["--home", str(self.home), "--node-path", str(self.root / "nodes")]

    def write(self, nodes, name="wf", **rest):
        path = self.root / f"{name}.json"
        path.write_text(json.dumps({"nodegraph": 1, "name": name, "nodes": nodes, **rest}))
        return str(path)

    def __call__(self, verb, *words, stdin=None):
        """Runs a verb -> (exit code, stdout, stderr)."""
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        code = main([verb, *words, *self.common])
        found = self._capsys.readouterr()
        return code, found.out, found.err

    def json(self, verb, *words, stdin=None):
        """Runs a verb with --json -> (exit code, what it wrote)."""
        code, out, _ = self(verb, *words, "--json", stdin=stdin)
        return code, json.loads(out)

    def ran(self, *words):
        """Runs a workflow -> (what its saved files hold, ids of the nodes that ran)."""
        code, result = self.json("run", *words)
        assert code == 0, result
        texts = [Path(path).read_text() for path in result["files"]]
        return texts, [node for run in result["runs"] for node in run["ran"]]

    def process(self, verb, *words):
        """Starts a verb in a process of its own."""
        command = [sys.executable, "-m", "nodegraph", verb, *words, *self.common]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def place(tmp_path, capsys, monkeypatch):
    return Workplace(tmp_path, capsys, monkeypatch)


@pytest.fixture
def nodes_of():
    return graph


@pytest.fixture
def phrase(place):
    """A workflow with declared inputs of every type."""
    nodes = graph(
        n1=("Phrase", {"text": "hello", "scale": 2.0}), n2=("SaveText", {"value": ["1", 0], "prefix": "a"}),
        n3=("Seeded", {"seed": 7}),
        n4=("SaveText", {"value": ["3", 0], "prefix": "b"}),
    )  # fmt: skip
    nodes["1"]["_meta"] = {"title": "My Phrase"}
    inputs = {
        "prompt": {"bind": ["1.text"], "doc": "What to say; 100% of it."},
        "mode": {"bind": ["1.mode"]}, "loud": {"bind": ["1.loud"]}, "the_scale": {"bind": ["1.scale"]},
    }  # fmt: skip
    return place.write(nodes, "phrase", doc="Says something.", inputs=inputs)
