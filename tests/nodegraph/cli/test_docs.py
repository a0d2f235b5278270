import json
import re
import shlex
from pathlib import Path

import pytest

from nodegraph.cli import HELP

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL) for line in block.splitlines() if line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_docs_is_understood(command, place):
    (place.root / "prompt.txt").write_text("a red cone")
    (place.root / "values.json").write_text(json.dumps({"steps": 3}))
    before, _, after = command.rpartition("|")
    name, *words = shlex.split(after.partition(">")[0])
    stdin = shlex.split(before)[1] if before else None
    assert name == "nodegraph"
    is_run = words[0] == "run" and "--help" not in words
    code, out, err = place(words[0], *words[1:], *(["--dry-run"] if is_run else []), stdin=stdin)
    assert (code, err) == (0, "")
    assert out


def test_every_option_is_in_the_docs(place):
    text = DOCS.read_text()
    for verb in ("run", "plan", "check", "inputs", "nodes", "models"):
        options = re.findall(r"(?<=\s)(--[a-z-]+)", place(verb, "--help")[1])
        assert [
            option for option in options if option not in (text + HELP) and option not in ("--quiet", "--verbose")
        ] == []
