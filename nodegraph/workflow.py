"""The workflow document: what is on disk, on the wire and inside pictures. Nothing executes here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nodegraph.collector import quiet
from nodegraph.errors import Problem, WorkflowError, did_you_mean

VERSION = 1
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NodeDocument(BaseModel):
    """One node as written: its type, and its inputs by name, each a literal or a link `[id, slot]`.

    `mode` is `"skip"` for a node that passes its inputs on, `"mute"` for one that is left out; see `modes`.
    """

    model_config = ConfigDict(extra="allow")

    class_type: str
    inputs: dict[str, Any] = Field(default_factory=dict)
    mode: Any = None
    meta: dict[str, Any] | None = Field(default=None, alias="_meta")


class InputDocument(BaseModel):
    """A declared input: the node inputs it sets (`"6.text"`), and how it is shown.

    Its type, default and limits are those of what it binds.
    """

    model_config = ConfigDict(extra="allow")

    bind: list[str] = Field(min_length=1)
    doc: str = ""
    title: str | None = None
    required: bool = False


class Workflow(BaseModel):
    """A document: nodes, the interface it declares, what it needs, and how it looks.

    `nodes` has the shape of ComfyUI's API format. What this version does not know stays in place when it is saved.
    """

    model_config = ConfigDict(extra="allow")
    upgrades: ClassVar[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}

    nodegraph: int = VERSION
    name: str = ""
    doc: str = ""
    nodes: dict[str, NodeDocument]
    inputs: dict[str, InputDocument] = Field(default_factory=dict)
    outputs: dict[str, str] = Field(default_factory=dict)
    requires: dict[str, Any] = Field(default_factory=dict)
    ui: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def parse(cls, text: str | bytes) -> Workflow:
        """Reads a document from JSON: ours, or a bare ComfyUI API graph.

        Raises:
            WorkflowError: it is not JSON (line and column are named) or not a workflow (every place is named).
        """
        return cls.of(parsed(text))

    @classmethod
    def of(cls, document: Any) -> Workflow:
        """Reads a document from parsed JSON.

        Raises:
            WorkflowError: it is not a workflow; every place that is wrong is named.
        """
        if not isinstance(document, dict):
            raise WorkflowError.of(f"the document is a JSON {_kind(document)}", "an object with nodes")
        found = cast("dict[str, Any]", document)
        if "nodegraph" not in found:
            found = _from_api(found)
        version = found.get("nodegraph")
        if type(version) is not int or version < 1:
            raise WorkflowError.of(f"nodegraph: {version!r} is no version", f"a whole number up to {VERSION}")
        if version > VERSION:
            fix = "update nodegraph (pip install -U nodegraph)"
            raise WorkflowError.of(f"the document has version {version}", f"{VERSION} or lower", fix)
        while version < VERSION:
            found, version = cls.upgrades[version](found), version + 1
        try:
            with quiet():
                workflow = cls.model_validate(found)
        except ValidationError as error:
            raise WorkflowError([_problem(item) for item in error.errors()]) from None
        workflow.check_interface()
        return workflow

    def check_interface(self) -> None:
        """Checks that declared inputs and outputs point at nodes of this document.

        Raises:
            WorkflowError: a declaration points nowhere.
        """
        problems: list[Problem] = []
        places = [(f"inputs.{name}", place) for name, item in self.inputs.items() for place in item.bind]
        for where, place in [*places, *((f"outputs.{name}", place) for name, place in self.outputs.items())]:
            node, _ = split_address(place)
            if node not in self.nodes:
                expected = "'<node id>.<input or output>'"
                problems.append(Problem(f"{where}: {place!r} names no node", None, None, None, expected,
                                        did_you_mean(node, self.nodes)))  # fmt: skip
        if problems:
            raise WorkflowError(problems)

    def with_values(self, values: Mapping[str, Any]) -> Workflow:
        """The same workflow with values at addresses: `{"6.text": "a cat"}` sets input `text` of node `6`.

        Raises:
            WorkflowError: a node of these addresses does not exist.
        """
        nodes = dict(self.nodes)
        missing: list[Problem] = []
        for address, value in values.items():
            node, name = split_address(address)
            if node not in nodes or not name:
                expected = "'<node id>.<input>'"
                missing.append(
                    Problem(f"{address!r} names no node input", expected=expected, fix=did_you_mean(node, nodes))
                )
                continue
            inputs = {**nodes[node].inputs, name: _written(value)}
            nodes[node] = nodes[node].model_copy(update={"inputs": inputs})
        if missing:
            raise WorkflowError(missing)
        return self.model_copy(update={"nodes": nodes})

    def with_inputs(self, values: Mapping[str, Any]) -> Workflow:
        """The same workflow with its declared inputs set.

        Raises:
            WorkflowError: an input is not declared, or one that is required has no value.
        """
        problems = [
            Problem(f"it has no input {name!r}", expected=_one_of(self.inputs), fix=did_you_mean(name, self.inputs))
            for name in values
            if name not in self.inputs
        ]
        problems += [
            Problem(f"input {name!r} has no value", expected="a value for it", fix=item.doc or None)
            for name, item in self.inputs.items()
            if item.required and name not in values
        ]
        if problems:
            raise WorkflowError(problems)
        return self.with_values({place: value for name, value in values.items() for place in self.inputs[name].bind})

    def api(self) -> dict[str, Any]:
        """The nodes alone, as ComfyUI's API format has them."""
        return {name: _node_json(node) for name, node in self.nodes.items()}

    def as_json(self) -> dict[str, Any]:
        """The whole document as JSON values, in a fixed order, without what is empty."""
        rest = self.model_dump(by_alias=True, exclude={"nodegraph", "nodes", "inputs"}, exclude_defaults=True)
        inputs = {name: item.model_dump(exclude_defaults=True) for name, item in self.inputs.items()}
        known = {"nodegraph": self.nodegraph, "name": self.name, "doc": self.doc, "nodes": self.api(), "inputs": inputs}
        known |= {"outputs": self.outputs, "requires": self.requires, "ui": self.ui}
        return {name: value for name, value in known.items() if value not in ({}, "") or name == "nodes"} | rest

    def dumps(self) -> str:
        """The whole document as text: one node a line, so that it diffs."""
        lines = ["{"]
        document = self.as_json()
        for number, (name, value) in enumerate(document.items(), 1):
            comma = "," if number < len(document) else ""
            if name in ("nodes", "inputs") and value:
                rows = [f"  {_line(key)}: {_line(item)}" for key, item in value.items()]
                lines.append(f" {_line(name)}: {{\n" + ",\n".join(rows) + "\n }" + comma)
            else:
                lines.append(f" {_line(name)}: {_line(value)}{comma}")
        return "\n".join([*lines, "}", ""])


def parsed(text: str | bytes) -> Any:
    """The JSON of a document.

    Raises:
        WorkflowError: it is not JSON; line and column are named.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise WorkflowError.of(f"not text: byte {error.start} is not UTF-8", "a JSON file or a PNG") from None
    try:
        found = json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        if SURROGATE.search(decoded):
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError:
        raise WorkflowError.of("a text holds half of a surrogate pair", "Unicode") from None
    except json.JSONDecodeError as error:
        what = f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise WorkflowError.of(what, fix=None if decoded.strip() else "the file is empty") from None
    except ValueError as error:  # a number with more digits than Python reads
        raise WorkflowError.of(f"not JSON: {str(error).partition(';')[0]}") from None
    except RecursionError:
        raise WorkflowError.of("the JSON is nested too deeply", "a flat object of nodes") from None


def split_address(address: str) -> tuple[str, str]:
    """`"12:5.text"` -> `("12:5", "text")`; the part after the last dot is the input or output.

    Names that end in a dot hold more of them, as `input_blocks.0.` of merges: theirs is what follows the first.
    """
    node, _, name = address.partition(".") if address.endswith(".") else address.rpartition(".")
    return (node, name) if node else (name, "")


def _written(value: Any) -> Any:
    """A value as an input has it: a list is wrapped, as a bare one of two may be a link."""
    return cast(Any, {"__value__": value}) if isinstance(value, list) else value


def _node_json(node: NodeDocument) -> dict[str, Any]:
    mode = {} if node.mode is None else {"mode": node.mode}
    meta = {} if node.meta is None else {"_meta": node.meta}
    return {"class_type": node.class_type, "inputs": node.inputs, **mode, **(node.model_extra or {}), **meta}


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one_of(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names) if names else "none: this workflow declares no inputs"


def _kind(value: object) -> str:
    names: Mapping[type, str] = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WorkflowError.of(f"the JSON names {twice!r} twice in one object", "each name once", "rename one of them")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise WorkflowError.of(f"{text[:40]} is too large for a number", "one below 1.8e308")
    return number


def _no_constant(name: str) -> Any:
    raise WorkflowError.of(f"{name} is not JSON", "a finite number")


def _from_api(document: dict[str, Any]) -> dict[str, Any]:
    """Version 0 of the document is ComfyUI's API format: the nodes and nothing else."""
    if isinstance(document.get("nodes"), list) and "links" in document:
        raise WorkflowError.of(
            "this is a file of ComfyUI's editor, whose values have no names without the node types",
            "ComfyUI's API format or a nodegraph document",
            "open it as a file or a picture, or export it in ComfyUI with 'Export (API)'",
        )
    nodes = document.get("prompt") if isinstance(document.get("prompt"), dict) else document
    return {"nodegraph": VERSION, "nodes": nodes}


def _problem(error: Any) -> Problem:
    """One of pydantic's errors as ours, with the node it is in."""
    place = [str(part) for part in error["loc"]]
    if place[:1] == ["nodes"] and len(place) > 1:
        what = "has no class_type" if place[2:] == ["class_type"] and error["type"] == "missing" else error["msg"]
        where = ".".join(place[2:])
        if error["type"] in ("model_type", "dict_type") and not where:
            what = "is no node"
        if place[2:] and place[2:] != ["class_type"]:
            what = f"{where}: {what}"
        return Problem(what, node=place[1], expected='{"class_type": ..., "inputs": {...}}')
    if place == ["nodes"] and error["type"] == "missing":
        return Problem("it has no nodes", expected='"nodes": {"1": {"class_type": ..., "inputs": {...}}}')
    return Problem(f"{'.'.join(place)}: {error['msg']}")
