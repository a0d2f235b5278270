"""The shape of ComfyUI's editor files: version 0.4, with links as lists, and 1.0, with links as objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from nodegraph.errors import Problem, WorkflowError
from nodegraph.spec import Input

CONTROLS = frozenset({"fixed", "increment", "decrement", "increment-wrap", "randomize"})
SAVE_AGAIN = "open the file in ComfyUI and save it again"


def is_editor_file(document: Any) -> bool:
    """True for what ComfyUI's editor saves: a list of nodes, where ours and API graphs have them by id."""
    if not isinstance(document, dict):
        return False
    found = cast("dict[str, Any]", document)
    return "nodegraph" not in found and isinstance(found.get("nodes"), list)


def editor_file(document: Any) -> EditorFile:
    """Reads parsed JSON.

    Raises:
        WorkflowError: it has not the shape of an editor file; every place is named.
    """
    try:
        return EditorFile.model_validate(document)
    except ValidationError as error:
        raise WorkflowError([_problem(document, item) for item in error.errors()]) from None


def widget_values(values: Sequence[Any], items: Sequence[Input]) -> dict[str, Any]:
    """Values by position -> by name; never shifted.

    What a seed does after a run (`randomize`) has no input and is skipped, also once where it is not expected, if that
    makes all values fit. Values stop where two or more cannot be of their inputs; a single one stays, to be told.

    Args:
        values: `widgets_values` of a node; null stands for no value.
        items: the inputs that are widgets, in their order.
    """
    places = _places(values, items)
    wrong = [at for item, at in zip(items, places, strict=False) if not _fits(values[at], item)]
    if wrong and is_control(values[wrong[0]]):
        shorter = [*values[: wrong[0]], *values[wrong[0] + 1 :]]
        if all(_fits(shorter[at], item) for item, at in zip(items, _places(shorter, items), strict=False)):
            values, places, wrong = shorter, _places(shorter, items), []
    strange = [
        number for number, (item, at) in enumerate(zip(items, places, strict=False)) if not _is_kind(values[at], item)
    ]
    kept = places if len(strange) < 2 else places[: strange[0]]
    return {item.name: values[at] for item, at in zip(items, kept, strict=False) if values[at] is not None}


def _places(values: Sequence[Any], items: Sequence[Input]) -> list[int]:
    """The place of each input's value, as far as there are values."""
    found: list[int] = []
    at = 0
    for item in items:
        if at >= len(values):
            break
        found.append(at)
        at += 1
        if is_seed(item) and at < len(values) and is_control(values[at]):
            at += 1
    return found


def controls(values: Sequence[Any], items: Sequence[Input]) -> dict[str, str]:
    """What becomes of each seed after a run, by the name of its input.

    Args:
        values: `widgets_values` of a node.
        items: the inputs that are widgets, in their order.
    """
    places = zip(items, _places(values, items), strict=False)
    seeds = {item.name: values[at + 1] for item, at in places if is_seed(item) and at + 1 < len(values)}
    return {name: value for name, value in seeds.items() if is_control(value)}


def is_seed(item: Input) -> bool:
    """True for an input whose value is followed by what becomes of it after a run."""
    return item.widget.control_after_generate or (item.port == "INT" and item.name in ("seed", "noise_seed"))


def is_control(value: Any) -> bool:
    """True for what a seed does after a run, which is among the values of its node and no input of it."""
    return isinstance(value, str) and value in CONTROLS


def _is_kind(value: Any, item: Input) -> bool:
    """True when a value could be of an input, were its range or choice right."""
    if value is None:
        return True
    match item.port:
        case "BOOLEAN":
            return isinstance(value, bool)
        case "INT" | "FLOAT":
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and (item.port == "FLOAT" or value == value // 1)
        case "STRING" | "COMBO":
            return isinstance(value, str)
        case _:
            return True


def _fits(value: Any, item: Input) -> bool:
    if value is None or not _is_kind(value, item):
        return value is None
    limits = item.limits
    if item.choices is not None:
        return value in item.choices
    return not limits or (
        limits.get("ge", value) <= value <= limits.get("le", value)
        and ("gt" not in limits or value > limits["gt"])
        and ("lt" not in limits or value < limits["lt"])
    )


def _id(value: Any) -> Any:
    """Ids are numbers or texts; links name a node either way."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError("an id is a whole number or a text")
    return str(int(value))


def _listed(value: Any) -> Any:
    return [] if value is None else value


def _linked(value: Any) -> Any:
    """A link as a list, of version 0.4, as an object, of 1.0."""
    if not isinstance(value, list):
        return value
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return dict(zip(names, cast("list[Any]", value), strict=False))


Id = Annotated[str, BeforeValidator(_id)]


class Widget(BaseModel):
    """The name of the widget that a socket stands for."""

    name: str


class Socket(BaseModel):
    """An input or output of a node, or of a subgraph."""

    name: str = ""
    type: Any = "*"
    link: Id | None = None
    widget: Widget | None = None

    @property
    def key(self) -> str:
        """The name of the input it stands for."""
        return self.widget.name if self.widget else self.name


class EditorNode(BaseModel):
    """A node; of `mode`, 2 is muted and 4 is bypassed. For how it looks see `comfy_look`."""

    id: Id
    type: str
    mode: Any = 0
    title: Any = None
    pos: Any = None
    size: Any = None
    flags: Any = None
    color: Any = None
    bgcolor: Any = None
    properties: Any = None
    inputs: Annotated[list[Socket], BeforeValidator(_listed)] = Field(default_factory=list[Socket])
    outputs: Annotated[list[Socket], BeforeValidator(_listed)] = Field(default_factory=list[Socket])
    widgets_values: list[Any] | dict[str, Any] | None = None


class EditorLink(BaseModel):
    """A link from a slot to a slot."""

    id: Id
    origin_id: Id
    origin_slot: int
    target_id: Id
    target_slot: int


Links = Annotated[list[Annotated[EditorLink, BeforeValidator(_linked)] | None], BeforeValidator(_listed)]


class Border(BaseModel):
    """The node inside a subgraph that stands for its inputs, or its outputs."""

    id: Id


class Canvas(BaseModel):
    """Nodes and links."""

    nodes: list[EditorNode]
    links: Links = Field(default_factory=list[EditorLink | None])


class Subgraph(Canvas):
    """A canvas that is a node of others: those whose `type` is its id."""

    id: Id
    name: str = ""
    input_node: Border = Field(default=Border(id="-10"), alias="inputNode")
    output_node: Border = Field(default=Border(id="-20"), alias="outputNode")
    inputs: Annotated[list[Socket], BeforeValidator(_listed)] = Field(default_factory=list[Socket])


class Definitions(BaseModel):
    """The subgraphs of a file, also those inside subgraphs."""

    subgraphs: Annotated[list[Subgraph], BeforeValidator(_listed)] = Field(default_factory=list[Subgraph])


class EditorFile(Canvas):
    """A whole file."""

    definitions: Definitions | None = None
    groups: Any = None
    extra: Any = None
    models: Any = None


def proxies(instance: EditorNode) -> dict[tuple[str, str], Any]:
    """What a subgraph's node sets of the widgets inside: by node and widget, as newer files list them."""
    names, values = sequence(property_of(instance, "proxyWidgets")), sequence(instance.widgets_values)
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


def sequence(value: Any) -> list[Any]:
    """A list; empty where the file has something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def property_of(node: EditorNode, name: str) -> Any:
    """One of the properties of a node, or None."""
    properties = node.properties
    return cast("dict[str, Any]", properties).get(name) if isinstance(properties, dict) else None


def at(ports: Sequence[Socket], slot: int) -> Socket | None:
    """The socket of a slot, or None."""
    return ports[slot] if 0 <= slot < len(ports) else None


def _problem(document: Any, error: Any) -> Problem:
    """One of pydantic's errors as ours, with the node it is in."""
    node = class_type = None
    place: list[str] = []
    at: Any = document
    for part in error["loc"]:
        place.append(str(part))
        try:
            at = at[part]
        except (LookupError, TypeError):
            continue  # what is missing, or a part of our types and not of the file
        if place[-2:-1] == ["nodes"]:
            (node, class_type), place = _named(at, part), []
    what = str(error["msg"]).removeprefix("Value error, ")
    return Problem(f"{'.'.join(place)}: {what}", node, class_type, fix=SAVE_AGAIN)


def _named(node: Any, place: Any) -> tuple[str, str | None]:
    """The id and type of a node that may be anything."""
    found = cast("dict[str, Any]", node) if isinstance(node, dict) else {}
    return str(found.get("id", f"at place {place}")), str(found.get("type", "")) or None
