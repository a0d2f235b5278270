"""The command line: `nodegraph VERB`. Verbs live beside this file; here they are chosen and their errors told."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from nodegraph.cli.arguments import UsageError
from nodegraph.cli.codes import CANCELLED, FAILED, OK, OUT_OF_MEMORY, STATUS, code_of
from nodegraph.cli.terminal import Terminal
from nodegraph.errors import NodegraphError, WorkflowError, did_you_mean

Verb = Callable[[list[str], Terminal], int]
VERBS: Mapping[str, str] = {
    "run": "run", "check": "documents", "plan": "run", "inputs": "documents", "nodes": "catalog", "models": "catalog",
    "serve": "serve", "token": "token", "backup": "backup", "restore": "backup",
}  # fmt: skip
"""Verbs and the module beside this file that has the function of the same name, loaded when it is called."""

HELP = """\
usage: nodegraph VERB ...

Runs workflows of a typed node graph for diffusion models.

verbs:
  run WORKFLOW      run it; `nodegraph run WORKFLOW --help` lists its own inputs as options
  check WORKFLOW    tell everything that is wrong with it, without running anything
  plan WORKFLOW     what is cached and what would run
  inputs WORKFLOW   the inputs it declares, with types, defaults and ranges
  nodes [NAME]      the node types at hand, or the page of one
  models            `list [KIND]`, `hash NAME`, `where`
  serve             serve a queue, ComfyUI's API and our own
  token             `add NAME`, `list`, `revoke NAME`: who may call a server
  backup FILE       put a server's data into one file, also while it runs
  restore FILE      bring it back

  WORKFLOW is a JSON file, a picture that carries a workflow, a name in the library, or - for stdin.

options:
  -h, --help        this text; `nodegraph VERB --help` tells more
  --version         the version

examples:
  nodegraph run text_to_image --prompt "a large red sphere" --seed 7
  nodegraph run picture.png --set KSampler.steps=30 --explain
  nodegraph check workflow.json

exit codes: 0 fine, 2 usage, 3 invalid workflow, 4 missing model or node, 5 a node failed, 6 out of memory,
7 cancelled or timed out
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command -> its exit code. Every error becomes a sentence on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    terminal = Terminal(_verbosity(words))
    try:
        with terminal.logging():
            return _dispatch(words, terminal)
    except NodegraphError as error:
        return _complain(error, words, terminal)
    except KeyboardInterrupt:
        return _tell(CANCELLED, "cancelled", words, terminal)
    except MemoryError:
        return _tell(OUT_OF_MEMORY, "out of memory; use a smaller size or batch, or --vram-limit", words, terminal)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _tell(FAILED, f"{place}{error.strerror or error}", words, terminal)
    except Exception as error:  # a bug of ours: told in a sentence, with the traceback for those who ask
        if terminal.verbosity > 0:
            terminal.say(traceback.format_exc().rstrip(), level=-1)
        message = f"unexpected {type(error).__name__}: {error}; this is a bug in nodegraph or a node package"
        return _tell(FAILED, message + ("" if terminal.verbosity > 0 else "; -v shows the traceback"), words, terminal)


def _dispatch(words: list[str], terminal: Terminal) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        terminal.out(HELP.rstrip())
        return OK
    if words[0] == "--version":
        from nodegraph import __version__

        terminal.out(f"nodegraph {__version__}")
        return OK
    word = words[0]
    if word in VERBS:
        verb: Verb = getattr(import_module(f"nodegraph.cli.{VERBS[word]}"), word)
        return verb(words[1:], terminal)
    path = Path(word).expanduser()
    if path.suffix.lower() in (".json", ".png") and path.is_file():
        raise UsageError(f"{word!r} is a file, not a verb; did you mean `nodegraph run {word}`?")
    near = did_you_mean(word, [*VERBS, "--help", "--version"])
    what = f"option {word} is unknown" if word.startswith("-") else f"{word!r} is no verb"
    raise UsageError(f"{what}; {near or 'one of ' + ', '.join(VERBS)}; see nodegraph --help")


def _verbosity(words: Sequence[str]) -> int:
    """-1 for -q, else the number of `v`s."""
    if "-q" in words or "--quiet" in words:
        return -1
    return sum(len(word) - 1 for word in words if re.fullmatch("-v+", word)) + words.count("--verbose")


def _complain(error: NodegraphError, words: Sequence[str], terminal: Terminal) -> int:
    problems = [problem.as_json() for problem in error.problems] if isinstance(error, WorkflowError) else []
    return _tell(code_of(error), str(error), words, terminal, problems)


def _tell(code: int, message: str, words: Sequence[str], terminal: Terminal, problems: Sequence[Any] = ()) -> int:
    """One sentence on stderr, and for scripts the same as JSON on stdout -> the code."""
    terminal.say("\n".join(f"nodegraph: {line}" for line in message.splitlines()), level=-1)
    if "--json" in words or "--json-stream" in words:
        head = {"type": "Result"} if "--json-stream" in words else {}
        body = {
            "status": STATUS[code],
            "exit_code": code,
            "message": message,
            "problems": list(problems),
            "runs": [],
            "files": [],
        }
        terminal.out(json.dumps({**head, **body}, ensure_ascii=False))
    return code
