"""`nodegraph nodes` and `nodegraph models`: what is at hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from nodegraph import describe
from nodegraph.cli.arguments import Parser, UsageError, add_places, settings_of
from nodegraph.cli.codes import OK
from nodegraph.cli.outlook import size_in_words
from nodegraph.cli.terminal import Terminal
from nodegraph.errors import did_you_mean
from nodegraph.files import ALIASES, MODEL_KINDS, Folders
from nodegraph.session import Session
from nodegraph.spec import Input, NodeSpec


def nodes(words: list[str], terminal: Terminal) -> int:
    """Lists the node types, or tells all about one -> exit code."""
    parser = Parser("nodes", "The node types at hand, or the page of one.", "[NAME] [options]")
    parser.general.add_argument("name", nargs="?", help="a node type, for its page")
    parser.general.add_argument("--json", action="store_true", help="as JSON: an array, or one object")
    add_places(parser)
    args = parser.parse(words)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return OK
    with Session(settings_of(args)) as session:
        registry = session.registry
    if args.name is None:
        specs = sorted(registry, key=lambda spec: (spec.category, spec.name))
        terminal.out(
            json.dumps([describe.of_node(spec) for spec in specs], ensure_ascii=False) if args.json else _listing(specs)
        )
        return OK
    spec = registry.get(args.name) or registry.get(registry.nearest(args.name) or "")
    if spec is None or spec.name.casefold() != args.name.casefold():
        near = f"did you mean {spec.name!r}?" if spec else "see nodegraph nodes"
        raise UsageError(f"no node type {args.name!r} is installed; {near}")
    terminal.out(json.dumps(describe.of_node(spec), ensure_ascii=False, indent=1) if args.json else _page(spec))
    return OK


def models(words: list[str], terminal: Terminal) -> int:
    """Lists models, tells a model's digests, or the folders searched -> exit code."""
    parser = Parser("models", "list [KIND]: models by kind; hash NAME: digests of one; where: every folder searched.",
                    "(list [KIND] | hash NAME | where) [options]")  # fmt: skip
    parser.general.add_argument("action", nargs="?", help="list, hash or where")
    parser.general.add_argument(
        "name", nargs="?", help="a kind to list, or a model (NAME, KIND/NAME or a path) to hash"
    )
    parser.general.add_argument("--json", action="store_true", help="as JSON")
    add_places(parser)
    args = parser.parse(words)
    if args.help:
        terminal.out(parser.format_help().rstrip())
        return OK
    actions = {"list": _list, "hash": _hash, "where": _where}
    action = actions.get(args.action or "list")
    if action is None:
        raise UsageError(
            f"models {args.action}: expected list, hash or where; {did_you_mean(args.action, actions) or ''}".rstrip(
                "; "
            )
        )
    with Session(settings_of(args)) as session:
        found, text = action(session.folders, args.name)
    terminal.out(json.dumps(found, ensure_ascii=False) if args.json else text)
    return OK


def _listing(specs: list[NodeSpec]) -> str:
    width = max((len(spec.name) for spec in specs), default=0)
    lines: list[str] = []
    category = None
    for spec in specs:
        if spec.category != category:
            category = spec.category
            lines += [*([""] if lines else []), category or "(no category)"]
        lines.append(f"  {spec.name:{width}}  {(spec.doc.splitlines() or [''])[0]}".rstrip())
    return "\n".join(lines)


def _page(spec: NodeSpec) -> str:
    lines = [f"{spec.name} ({spec.title}), {spec.category}" + ("" if spec.kind == "pure" else f", {spec.kind}")]
    lines += ["", spec.doc] if spec.doc else []
    if spec.inputs:
        lines += ["", "inputs:"]
    for item in spec.inputs:
        lines.append(f"  {item.name}: {describe.expected(item)}; {_marks(item)}")
        lines += [f"      {item.doc}"] if item.doc else []
    lines += ["", "outputs:" if spec.outputs else "outputs: none"]
    lines += [
        f"  {slot} {output.name}: {output.port}" + (" (a list)" if output.is_each else "")
        for slot, output in enumerate(spec.outputs)
    ]
    return "\n".join(lines)


def _marks(item: Input) -> str:
    marks = [describe.default(item), "lazy" if item.is_lazy else "", "takes a whole list" if item.is_list else ""]
    return "; ".join(filter(None, marks))


def _list(folders: Folders, kind: str | None) -> tuple[Any, str]:
    known = ALIASES.get(kind or "", kind or "")
    if kind is not None and known not in folders.models:
        raise UsageError(
            f"{kind!r} is no kind of model; {did_you_mean(kind, folders.models) or 'one of ' + ', '.join(MODEL_KINDS)}"
        )
    found: list[dict[str, Any]] = []
    for each in [known] if kind is not None else folders.models:
        for name in folders.names(each):
            path = folders.path(each, name)
            found.append({"kind": each, "name": name, "path": str(path), "bytes": _size(path)})
    text = "\n".join(
        f"{model['kind']}/{model['name']}  {size_in_words(model['bytes'])}  {model['path']}" for model in found
    )
    return found, text or "no models; nodegraph models where lists the folders searched"


def _hash(folders: Folders, name: str | None) -> tuple[Any, str]:
    if name is None:
        raise UsageError("models hash: which model? see nodegraph models list")
    path = _model(folders, name)
    sha256 = None
    if path.is_file():
        state = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
        sha256 = state.hexdigest()
    content = folders.content(path)
    found = {"path": str(path), "bytes": _size(path), "sha256": sha256, "content": content}
    return found, "\n".join(f"{key}: {value}" for key, value in found.items() if value is not None)


def _model(folders: Folders, name: str) -> Path:
    """A model by `KIND/NAME`, by a name that one kind has, or by path."""
    kind, _, rest = name.partition("/")
    if rest and ALIASES.get(kind, kind) in folders.models and rest in folders.names(kind):
        return folders.path(kind, rest)
    places = {f"{each}/{name}": folders.path(each, name) for each in folders.models if name in folders.names(each)}
    distinct = {path.resolve() for path in places.values()}
    if len(distinct) > 1:
        raise UsageError(f"{name!r} stands for several models: {', '.join(places)}; write one of them")
    if places:
        return next(iter(places.values()))
    path = Path(name).expanduser()
    if path.exists():
        return path
    known = [f"{each}/{model}" for each in folders.models for model in folders.names(each)]
    near = did_you_mean(name, [*known, *(model.partition("/")[2] for model in known)])
    raise UsageError(f"no model {name!r}; {near or 'see nodegraph models list'}")


def _where(folders: Folders, kind: str | None) -> tuple[Any, str]:
    kinds = [kind] if kind is not None else [*folders.models, "input", "output", "temp", "workflows"]
    found = [
        {"kind": each, "path": str(root), "exists": root.is_dir()} for each in kinds for root in folders.roots(each)
    ]
    if not found:
        raise UsageError(
            f"{kind!r} is no kind of file; {did_you_mean(kind or '', folders.models) or 'see nodegraph models where'}"
        )
    text = "\n".join(f"{row['kind']}: {row['path']}" + ("" if row["exists"] else " (not there)") for row in found)
    return found, text


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
