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
    at,
    controls,
    editor_file,
    is_control,
    is_seed,
    property_of,
    proxies,
    sequence,
    widget_values,
)
from nodegraph.comfy_look import SEEDS, groups_of, look_of_node, note_of, viewport_of
from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph import MUTE, REROUTE, SKIP
from nodegraph.modes import passed_on
from nodegraph.spec import Input, NodeSpec
from nodegraph.types import ANY, bypassed

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

    Subgraphs are flattened, with ids `outer:inner`; primitives are followed to what they stand for. Reroutes, muted and
    bypassed nodes stay, and links go through them where that means the same to us as to ComfyUI; else these are
    followed too. How it looks goes to `ui`.

    Args:
        document: the parsed JSON.
        find: the node types at hand, which name the widgets. Of other types the file's own names are used where they
            account for every value; else the values stay with the node as they are.

    Raises:
        WorkflowError: with everything that is wrong in the file.
    """
    return _Reader(editor_file(document), find).read()


class _Literal(NamedTuple):
    """What a link brings from a primitive or a widget, and what becomes of it after a run."""

    value: Any
    control: str | None = None


_Source = list[str | int] | _Literal | None


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
        self.found: dict[str, tuple[_Scope, EditorNode]] = {}
        self.followed: dict[tuple[str, str], _Source | _Broken] = {}
        self.nodes: dict[str, Any] = {}
        self.ui: dict[str, dict[str, Any]] = {
            name: {}
            for name in ("positions", "sizes", "collapsed", "colors", "seeds", "notes", "widgets_values", "properties")
        }
        self.models: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        scopes = [_Scope(_Graph(self.file, self.problems))]
        for scope in scopes:  # grows: a subgraph's comes after the one it is in
            for node in scope.graph.nodes.values():
                self._place(scope, node, scopes)
            if len(self.found) + len(scopes) > LIMIT:
                raise WorkflowError.of(f"its subgraphs unfold to more than {LIMIT} nodes", fix="use fewer of them")
        for name, (scope, node) in self.found.items():
            self.nodes[name] = self._document(name, scope, node)
        self._need(self.file.models)
        if self.problems:
            raise WorkflowError(self.problems)
        ui: dict[str, Any] = {name: value for name, value in self.ui.items() if value}
        ui |= {"groups": groups} if (groups := groups_of(self.file)) else {}
        ui |= {"viewport": viewport} if (viewport := viewport_of(self.file)) else {}
        requires = {"models": list(self.models.values())} if self.models else {}
        return {"nodegraph": 1, "nodes": self.nodes, "requires": requires, "ui": ui}

    def _place(self, scope: _Scope, node: EditorNode, scopes: list[_Scope]) -> None:
        """Notes what a node of the file becomes: a node of ours, a scope of its own, or nothing that runs."""
        name = scope.prefix + node.id
        graph = self.subgraphs.get(node.type)
        is_group = node.type.startswith(("workflow>", "workflow/"))
        if node.type in NOTES:
            self.ui["notes"][name] = note_of(node)
        elif node.type == "PrimitiveNode" or (_is_aside(node) and (is_group or graph is not None)):
            return
        elif graph is not None and graph in scope.around():
            self.problems.append(_bad(name, None, "is a subgraph inside itself", fix="take it out of there"))
        elif graph is not None:
            self.inside[name] = _Scope(graph, f"{name}:", scope, node)
            scopes.append(self.inside[name])
        elif is_group:
            fix = "convert it to nodes or to a subgraph in ComfyUI and save the file again"
            self.problems.append(_bad(name, node.type, "is a group node, which is not supported", fix=fix))
        elif name in self.found and not _is_aside(self.found[name][1]):
            if not _is_aside(node):
                self.problems.append(_bad(name, node.type, "has the id of a node in a subgraph", fix="rename one"))
        else:
            self.found[name] = scope, node
            for part, value in look_of_node(node).items():
                self.ui[part][name] = value
            self._need(property_of(node, "models"))

    def _document(self, name: str, scope: _Scope, node: EditorNode) -> dict[str, Any]:
        """A node of ours: values by name, then what is linked."""
        class_type, spec = self._type(node)
        values = self._values(scope, node)
        inputs = {key: _wrapped(value) for key, value in values.items()}
        seeds = controls(sequence(node.widgets_values), self._widgets(node))
        for port in node.inputs[:1] if node.type == REROUTE else node.inputs:
            if port.link is None:
                continue
            key = "value" if node.type == REROUTE else port.key
            try:
                source = self._follow(scope, port.link)
            except _Broken as error:
                fix = f"connect it again, or {SAVE_AGAIN}"
                if not _is_aside(node):
                    self.problems.append(Problem(str(error), name, class_type, key, fix=fix))
                continue
            if not isinstance(source, _Literal):
                link = self._link(scope, port.link, source)
                if link is not None and (source is not None or key not in inputs):
                    inputs[key] = link
                    seeds.pop(key, None)
            elif node.type != REROUTE:
                inputs[key] = _wrapped(source.value)
                item = Input(key, str(port.type)) if spec is None else spec.by_name.get(key)
                if source.control is not None and item is not None and is_seed(item):
                    seeds[key] = source.control
        self.ui["seeds"] |= {f"{name}.{key}": SEEDS[value] for key, value in seeds.items() if key in inputs}
        document: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
        if node.mode in (MUTED, BYPASSED):
            document["mode"] = MUTE if node.mode == MUTED else SKIP
        if isinstance(node.title, str) and node.title not in ("", node.type, class_type, spec and spec.title):
            document["_meta"] = {"title": node.title}
        given = sequence(node.widgets_values)
        if sum(value is not None and not is_control(value) for value in given) > len(values):
            self.ui["widgets_values"][name] = given
        if spec is None and node.properties and node.type != REROUTE:
            self.ui["properties"][name] = node.properties
        return document

    def _link(self, scope: _Scope, link: str, source: list[str | int] | None) -> list[str | int] | None:
        """A link as the document has it: to the first node on the way where we read that as ComfyUI does."""
        while True:
            found = scope.graph.links[link]
            node = scope.graph.nodes.get(found.origin_id)
            if node is not None and self.found.get(scope.prefix + node.id, (None, None))[1] is node:
                is_same = self._stands_for(scope, node, found.origin_slot, source)
                return [scope.prefix + node.id, found.origin_slot] if is_same else source
            step = self._origin(scope, found)
            if not isinstance(step, _Hop):
                return source
            scope, link = step

    def _stands_for(self, scope: _Scope, node: EditorNode, slot: int, source: list[str | int] | None) -> bool:
        """True when an output of a node brings us what it brings ComfyUI, which is `source`.

        ComfyUI looks for what a bypassed node passes on among the sockets in the file, and we among its inputs.
        """
        if not _is_aside(node) or node.mode == MUTED:
            return True
        if node.type == REROUTE:
            return slot == 0
        spec = self._type(node)[1]
        if spec is None or spec.slot(slot) is None:
            return False
        item, theirs = passed_on(spec, slot), _bypass(node, slot)
        ours = [port for port in node.inputs if item is not None and port.key == item.name and port.link is not None]
        is_same = ours == ([] if theirs is None or theirs.link is None else [theirs])
        return is_same and (source is not None or item is None or item.literal is None)

    def _widgets(self, node: EditorNode) -> list[Input]:
        """The inputs of a node that are widgets."""
        spec = self._type(node)[1]
        sockets = [Input(port.widget.name, str(port.type)) for port in node.inputs if port.widget]
        return sockets if spec is None else [spec.by_name[name] for name in spec.widgets]

    def _type(self, node: EditorNode) -> tuple[str, NodeSpec | None]:
        class_type = RENAMED.get(node.type, node.type)
        return class_type, self.find(class_type)

    def _values(self, scope: _Scope, node: EditorNode) -> dict[str, Any]:
        """The widgets of a node by name, with what the subgraph around it sets of them."""
        spec = self._type(node)[1]
        items = self._widgets(node)
        given = node.widgets_values
        if isinstance(given, dict):
            found = {name: value for name, value in given.items() if spec is None or name in spec.widgets}
        elif node.type in self.subgraphs and proxies(node):
            found = {name: value for (inner, name), value in proxies(node).items() if inner == PROMOTED}
        else:
            found = widget_values(given or [], items)
            if spec is None and node.type not in self.subgraphs and not _accounts_for(found, given or []):
                found = {}
        if scope.instance is not None:
            names = {item.name for item in items}
            found |= {
                name: value
                for (inner, name), value in proxies(scope.instance).items()
                if inner == node.id and name in names
            }
        return {name: value for name, value in found.items() if value is not None}

    def _follow(self, scope: _Scope, link: str) -> _Source:
        """What a link brings: a link of ours, a literal, or nothing; each worked out once. Raises _Broken."""
        path: dict[tuple[str, str], None] = {}
        while True:
            here = (scope.prefix, link)
            found = scope.graph.links.get(link)
            step: _Hop | _Source | _Broken
            if here in self.followed:
                step = self.followed[here]
            elif here in path:
                step = _Broken("its links go in a circle of reroutes or bypassed nodes")
            elif found is None:
                step = _Broken(f"link {link} is not among the links of the file")
            else:
                step = self._origin(scope, found)
            path[here] = None
            if not isinstance(step, _Hop):
                break
            scope, link = step
        self.followed |= dict.fromkeys(path, step)
        if isinstance(step, _Broken):
            raise step
        return step

    def _origin(self, scope: _Scope, link: EditorLink) -> _Hop | _Source | _Broken:
        slot = link.origin_slot
        node = scope.graph.nodes.get(link.origin_id)
        if node is None:
            if link.origin_id != scope.graph.entrance or scope.outer is None or scope.instance is None:
                return _Broken(f"link {link.id} comes from node {link.origin_id}, which is not in the file")
            wanted = at(scope.graph.inputs, slot)
            ports = scope.instance.inputs
            by_name = (port for port in ports if wanted is not None and port.name == wanted.name)
            return self._entry(scope.outer, scope.instance, next(by_name, at(ports, slot)))
        if node.type == "PrimitiveNode":
            values = sequence(node.widgets_values)
            control = next(filter(is_control, values[1:]), None)
            return next((_Literal(value, control) for value in values if value is not None), None)
        if node.mode == MUTED or node.type in NOTES:
            return None
        if node.type == REROUTE:
            return self._entry(scope, node, at(node.inputs, 0))
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


def _is_aside(node: EditorNode) -> bool:
    """True for a node that does not run as it is."""
    return node.type == REROUTE or node.mode in (MUTED, BYPASSED)


def _bypass(node: EditorNode, slot: int) -> Socket | None:
    """The input that a bypassed node passes on: of the same slot if the types agree, else the first that fits."""
    output = at(node.outputs, slot)
    place = None if output is None else bypassed(output.type or ANY, slot, [port.type or ANY for port in node.inputs])
    return None if place is None else node.inputs[place]


def _accounts_for(found: Mapping[str, Any], values: Sequence[Any]) -> bool:
    """True when every value that counts has a name."""
    return sum(value is not None and not is_control(value) for value in values) == len(found)


def _wrapped(value: Any) -> Any:
    return cast(Any, {"__value__": value}) if isinstance(value, list) else value


def _bad(node: str | None, class_type: str | None, what: str, *, fix: str) -> Problem:
    return Problem(what, node, class_type, fix=fix)
