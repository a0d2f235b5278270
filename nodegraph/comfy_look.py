"""How a file of ComfyUI's editor looks, as `ui` of our documents: places, sizes, colours, notes, groups, the view."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from nodegraph.comfy_file import EditorFile, EditorNode, sequence

SEEDS: Mapping[str, str] = {
    "fixed": "fixed", "increment": "increment", "increment-wrap": "increment", "decrement": "decrement",
    "randomize": "random",
}  # fmt: skip
COLOR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def look_of_node(node: EditorNode) -> dict[str, Any]:
    """What a node has of `positions`, `sizes`, `collapsed` and `colors`."""
    flags: Any = node.flags
    is_collapsed = isinstance(flags, dict) and cast("dict[str, Any]", flags).get("collapsed") is True
    found = {
        "positions": _pair(node.pos), "sizes": _pair(node.size), "collapsed": is_collapsed or None,
        "colors": _color(node.color) or _color(node.bgcolor),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def note_of(node: EditorNode) -> dict[str, Any]:
    """A note, without what it has not."""
    note = {
        "text": next(iter(sequence(node.widgets_values)), ""),
        "title": node.title,
        "position": _pair(node.pos),
        "size": _pair(node.size),
    }
    return {key: value for key, value in note.items() if value is not None}


def groups_of(file: EditorFile) -> list[dict[str, Any]]:
    """The groups, each with an id of its own; those without a place are left out."""
    found: dict[str, dict[str, Any]] = {}
    for group in sequence(file.groups):
        match group:
            case {"bounding": [int() | float(), int() | float(), int() | float(), int() | float()]}:
                fields = cast("dict[str, Any]", group)
                id = f"g{fields.get('id', len(found) + 1)}"
                while id in found:
                    id += "'"
                found[id] = {**fields, "id": id}
            case _:
                pass
    return list(found.values())


def viewport_of(file: EditorFile) -> dict[str, float] | None:
    """What of the canvas was in view: the place of its origin on the screen, and how much it is enlarged."""
    match file.extra:
        case {"ds": {"scale": int() | float() as zoom, "offset": offset}} if zoom > 0:
            at = _pair(offset)
            return None if at is None else {"x": at[0] * zoom, "y": at[1] * zoom, "zoom": zoom}
        case _:
            return None


def _color(value: Any) -> str | None:
    """`#rrggbb` of a colour of three or six digits."""
    if not isinstance(value, str) or not COLOR.fullmatch(value):
        return None
    return value if len(value) == 7 else "#" + "".join(digit * 2 for digit in value[1:])


def _pair(value: Any) -> list[Any] | None:
    """`[x, y]`, or `{"0": x, "1": y}` as older files have it."""
    match value:
        case [int() | float() as x, int() | float() as y, *_] | {"0": int() | float() as x, "1": int() | float() as y}:
            return [x, y]
        case _:
            return None
