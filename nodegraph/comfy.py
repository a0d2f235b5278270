"""ComfyUI's editor files: the JSON its frontend saves, read as a document of ours. Nothing executes here.

The rules are those by which the frontend makes the graph that it sends (`graphToPrompt`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from nodegraph.comfy_file import (
    SAVE_AGAIN,
    Canvas,
    EditorFile,
    EditorLink,
    EditorNode,
    Socket,
    Subgraph,
    editor_file,
    is_control,
    widget_values,
)
from nodegraph.errors import Problem, WorkflowError
from nodegraph.spec import Input, NodeSpec

NOTES = frozenset({"Note", "MarkdownNote"})
MUTED, BYPASSED = 2, 4
PROMOTED = "-1"  # in `proxyWidgets`: the widget of an input of the subgraph, not of a node inside
RENAMED: Mapping[str, str] = {
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
    "T2IAdapterLoader": "ControlNetLoader",
}
LIMIT = 100_000

Find = Callable[[str], NodeSpec | None]


def from_editor(document: Any, find: Find) -> dict[str, Any]:
    """Reads an editor file -> a document of ours, as JSON values.

    Subgraphs are flattened, with ids `outer:inner`; reroutes, primitives and bypassed nodes are followed to what they
    stand for; muted nodes are left out. Positions, groups and notes go to `ui`.

    Args:
        document: the parsed JSON.
        find: the node types at hand, which name the widgets. Of other types the file's own names are used where they
            account for every value; else the values stay with the node as they are.

    Raises:
        WorkflowError: with everything that is wrong in the file.
    """
    return _Reader(editor_file(document), find).read()


class _Literal(NamedTuple):
    """What a link brings from a primitive or a widget."""

    value: Any


class _Hop(NamedTuple):
    """The link to follow next, and where it is."""

    scope: _Scope
    link: str


class _Broken(Exception):
    """A link that leads nowhere; a sentence that follows the name of the input."""


class _Graph:
    """The nodes and links of one canvas by id; `exits` are the links to the output slots of a subgraph."""

    def __init__(self, canvas: Canvas, problems: list[Problem]) -> None:
        self.nodes: dict[str, EditorNode] = {}
        self.links: dict[str, EditorLink] = {}
        for node in canvas.nodes:
            if node.id in self.nodes:
                problems.append(_bad(node.id, node.type, "is there twice", fix="give one of them another id"))
            self.nodes[node.id] = node
        for link in canvas.links:
            if link is not None:
                if self.links.setdefault(link.id, link) != link:
                    what = f"link {link.id} is there twice, with different ends"
                    problems.append(_bad(link.target_id, None, what, fix=SAVE_AGAIN))
        sub = canvas if isinstance(canvas, Subgraph) else None
        self.inputs = sub.inputs if sub else []
        self.entrance = sub.input_node.id if sub else None
        exits = [link for link in self.links.values() if sub and link.target_id == sub.output_node.id]
        self.exits = {link.target_slot: link.id for link in exits}


@dataclass(frozen=True, eq=False)
class _Scope:
    """A canvas where it is used: the whole file, or a subgraph as one node of the scope around it."""

    graph: _Graph
    prefix: str = ""
    outer: _Scope | None = None
    instance: EditorNode | None = None

    def around(self) -> Iterator[_Graph]:
        """The graphs it is in, from the inside."""
        scope: _Scope | None = self
        while scope is not None:
            yield scope.graph
            scope = scope.outer


class _Reader:
    """Reads one file; what is wrong gathers in `problems`."""

    def __init__(self, file: EditorFile, find: Find) -> None:
        self.file, self.find = file, find
        self.problems: list[Problem] = []
        subgraphs = file.definitions.subgraphs if file.definitions else []
        self.subgraphs: dict[str, _Graph] = {}
        for item in subgraphs:
            if item.id in self.subgraphs:
                what = f"it defines the subgraph {item.name or item.id!r} twice"
                self.problems.append(Problem(what, fix="give one of them another id"))
            self.subgraphs[item.id] = _Graph(item, self.problems)
        self.inside: dict[str, _Scope] = {}
        self.nodes: dict[str, Any] = {}
        self.ui: dict[str, dict[str, Any]] = {
            name: {} for name in ("positions", "notes", "widgets_values", "properties")
        }
        self.models: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        scopes = [_Scope(_Graph(self.file, self.problems))]
        found: dict[str, tuple[_Scope, EditorNode]] = {}
        for scope in scopes:  # grows: a subgraph's comes after the one it is in
            for node in scope.graph.nodes.values():
                self._place(scope, node, scopes, found)
            if len(found) + len(scopes) > LIMIT:
                raise WorkflowError.of(f"its subgraphs unfold to more than {LIMIT} nodes", fix="use fewer of them")
        for name, (scope, node) in found.items():
            self.nodes[name] = self._document(name, scope, node)
        self._need(self.file.models)
        if self.problems:
            raise WorkflowError(self.problems)
        ui: dict[str, Any] = {name: value for name, value in self.ui.items() if value}
        if _sequence(self.file.groups):
            ui["groups"] = _sequence(self.file.groups)
        requires = {"models": list(self.models.values())} if self.models else {}
        return {"nodegraph": 1, "nodes": self.nodes, "requires": requires, "ui": ui}

    def _place(
        self, scope: _Scope, node: EditorNode, scopes: list[_Scope], found: dict[str, tuple[_Scope, EditorNode]]
    ) -> None:
        """Notes what a node of the file becomes: a node of ours, a scope of its own, or nothing that runs."""
        name = scope.prefix + node.id
        position = _position(node.pos)
        if node.type in NOTES:
            note = {"text": next(iter(_sequence(node.widgets_values)), ""), "title": node.title, "position": position}
            self.ui["notes"][name] = {key: value for key, value in note.items() if value is not None}
        elif node.type not in ("Reroute", "PrimitiveNode") and node.mode not in (MUTED, BYPASSED):
            graph = self.subgraphs.get(node.type)
            if graph is not None and graph in scope.around():
                self.problems.append(_bad(name, None, "is a subgraph inside itself", fix="take it out of there"))
            elif graph is not None:
                self.inside[name] = _Scope(graph, f"{name}:", scope, node)
                scopes.append(self.inside[name])
            elif node.type.startswith(("workflow>", "workflow/")):
                fix = "convert it to nodes or to a subgraph in ComfyUI and save the file again"
                self.problems.append(_bad(name, node.type, "is a group node, which is not supported", fix=fix))
            elif name in found:
                self.problems.append(_bad(name, node.type, "has the id of a node in a subgraph", fix="rename one"))
            else:
                found[name] = scope, node
                if position is not None:
                    self.ui["positions"][name] = position
                self._need(_property(node, "models"))

    def _document(self, name: str, scope: _Scope, node: EditorNode) -> dict[str, Any]:
        """A node of ours: values by name, then what is linked."""
        class_type, spec = self._type(node)
        values = self._values(scope, node)
        inputs = {key: _wrapped(value) for key, value in values.items()}
        for port in node.inputs:
            if port.link is None:
                continue
            key = port.widget.name if port.widget else port.name
            try:
                source = self._follow(scope, port.link)
            except _Broken as error:
                fix = f"connect it again, or {SAVE_AGAIN}"
                self.problems.append(Problem(str(error), name, class_type, key, fix=fix))
                continue
            if source is not None:
                inputs[key] = _wrapped(source.value) if isinstance(source, _Literal) else source
        document: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
        if isinstance(node.title, str) and node.title not in ("", node.type, class_type, spec and spec.title):
            document["_meta"] = {"title": node.title}
        given = _sequence(node.widgets_values)
        if sum(value is not None and not is_control(value) for value in given) > len(values):
            self.ui["widgets_values"][name] = given
        if spec is None and node.properties:
            self.ui["properties"][name] = node.properties
        return document

    def _type(self, node: EditorNode) -> tuple[str, NodeSpec | None]:
        class_type = RENAMED.get(node.type, node.type)
        return class_type, self.find(class_type)

    def _values(self, scope: _Scope, node: EditorNode) -> dict[str, Any]:
        """The widgets of a node by name, with what the subgraph around it sets of them."""
        spec = self._type(node)[1]
        sockets = [Input(port.widget.name, str(port.type)) for port in node.inputs if port.widget]
        items = sockets if spec is None else [spec.by_name[name] for name in spec.widgets]
        given = node.widgets_values
        if isinstance(given, dict):
            found = {name: value for name, value in given.items() if spec is None or name in spec.widgets}
        elif node.type in self.subgraphs and _proxies(node):
            found = {name: value for (inner, name), value in _proxies(node).items() if inner == PROMOTED}
        else:
            found = widget_values(given or [], items)
            if spec is None and node.type not in self.subgraphs and not _accounts_for(found, given or []):
                found = {}
        if scope.instance is not None:
            names = {item.name for item in items}
            found |= {
                name: value
                for (inner, name), value in _proxies(scope.instance).items()
                if inner == node.id and name in names
            }
        return {name: value for name, value in found.items() if value is not None}

    def _follow(self, scope: _Scope, link: str) -> list[str | int] | _Literal | None:
        """What a link brings: a link of ours, a literal, or nothing. Raises _Broken."""
        seen: set[tuple[str, str]] = set()
        while True:
            if (scope.prefix, link) in seen:
                raise _Broken("its links go in a circle of reroutes or bypassed nodes")
            seen.add((scope.prefix, link))
            found = scope.graph.links.get(link)
            if found is None:
                raise _Broken(f"link {link} is not among the links of the file")
            step = self._origin(scope, found)
            if not isinstance(step, _Hop):
                return step
            scope, link = step

    def _origin(self, scope: _Scope, link: EditorLink) -> _Hop | list[str | int] | _Literal | None:
        slot = link.origin_slot
        node = scope.graph.nodes.get(link.origin_id)
        if node is None:
            if link.origin_id != scope.graph.entrance or scope.outer is None or scope.instance is None:
                raise _Broken(f"link {link.id} comes from node {link.origin_id}, which is not in the file")
            wanted = _at(scope.graph.inputs, slot)
            ports = scope.instance.inputs
            by_name = (port for port in ports if wanted is not None and port.name == wanted.name)
            return self._entry(scope.outer, scope.instance, next(by_name, _at(ports, slot)))
        if node.type == "PrimitiveNode":
            return next((_Literal(value) for value in _sequence(node.widgets_values) if value is not None), None)
        if node.mode == MUTED or node.type in NOTES:
            return None
        if node.type == "Reroute":
            return self._entry(scope, node, _at(node.inputs, 0))
        if node.mode == BYPASSED:
            return self._entry(scope, node, _bypass(node, slot))
        inside = self.inside.get(scope.prefix + node.id)
        if inside is not None:
            way = inside.graph.exits.get(slot)
            return None if way is None else _Hop(inside, way)
        return [scope.prefix + node.id, slot]

    def _entry(self, scope: _Scope, node: EditorNode, port: Socket | None) -> _Hop | _Literal | None:
        """What comes into an input of a node that only passes it on."""
        if port is None:
            return None
        if port.link is not None:
            return _Hop(scope, port.link)
        value = self._values(scope, node).get(port.widget.name) if port.widget else None
        return None if value is None else _Literal(value)

    def _need(self, models: Any) -> None:
        """Notes where the models come from, as far as the file says so."""
        for model in cast("list[Any]", models) if isinstance(models, list) else []:
            match model:
                case {"name": str(name), "url": str(url)}:
                    role = cast("dict[str, Any]", model).get("directory")
                    self.models[name] = {"role": str(role or ""), "name": name, "sources": [url]}
                case _:
                    pass


def _bypass(node: EditorNode, slot: int) -> Socket | None:
    """The input that a bypassed node passes on: of the same slot if the types agree, else the first that fits."""
    output = _at(node.outputs, slot)
    if output is None:
        return None
    if output.type in ("*", ""):
        return _at(node.inputs, slot) or _at(node.inputs, 0)
    same = _at(node.inputs, slot)
    ports = [same, *node.inputs] if same is not None else node.inputs
    exact = next((port for port in ports if port.type == output.type), None)
    return exact or next((port for port in ports if port.type in ("*", "")), None)


def _proxies(instance: EditorNode) -> dict[tuple[str, str], Any]:
    """What a subgraph's node sets of the widgets inside: by node and widget, as newer files list them."""
    names, values = _sequence(_property(instance, "proxyWidgets")), _sequence(instance.widgets_values)
    if len(names) != len(values):
        return {}
    found: dict[tuple[str, str], Any] = {}
    for pair, value in zip(names, values, strict=True):
        match pair:
            case [str() | int() as inner, str(name)]:
                found[str(inner), name] = value
            case _:
                pass
    return found


def _accounts_for(found: Mapping[str, Any], values: Sequence[Any]) -> bool:
    """True when every value that counts has a name."""
    return sum(value is not None and not is_control(value) for value in values) == len(found)


def _sequence(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _property(node: EditorNode, name: str) -> Any:
    properties = node.properties
    return cast("dict[str, Any]", properties).get(name) if isinstance(properties, dict) else None


def _at(ports: Sequence[Socket], slot: int) -> Socket | None:
    return ports[slot] if 0 <= slot < len(ports) else None


def _wrapped(value: Any) -> Any:
    return cast(Any, {"__value__": value}) if isinstance(value, list) else value


def _position(value: Any) -> list[Any] | None:
    """`[x, y]`, or `{"0": x, "1": y}` as older files have it."""
    match value:
        case [int() | float() as x, int() | float() as y, *_] | {"0": int() | float() as x, "1": int() | float() as y}:
            return [x, y]
        case _:
            return None


def _bad(node: str | None, class_type: str | None, what: str, *, fix: str) -> Problem:
    return Problem(what, node, class_type, fix=fix)
