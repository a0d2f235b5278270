"""Values as nodes, so that one of them can feed many inputs, and values as text."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Widget

Multiline = Annotated[str, Widget(multiline=True)]
Whole = Annotated[int, Field(ge=-sys.maxsize, le=sys.maxsize), Widget(control_after_generate=True)]
Number = Annotated[float, Field(ge=-sys.maxsize, le=sys.maxsize), Widget(step=0.1)]


@node("PrimitiveString", category="utils/primitive", title="String")
def primitive_string(*, value: str) -> str:
    """A text.

    Args:
        value: The text.
    """
    return value


@node("PrimitiveStringMultiline", category="utils/primitive", title="String (Multiline)")
def primitive_multiline(*, value: Multiline) -> str:
    """A text of several lines.

    Args:
        value: The text.
    """
    return value


@node("PrimitiveInt", category="utils/primitive", title="Int")
def primitive_int(*, value: Whole) -> int:
    """A whole number.

    Args:
        value: The number.
    """
    return value


@node("PrimitiveFloat", category="utils/primitive", title="Float")
def primitive_float(*, value: Number) -> float:
    """A number.

    Args:
        value: The number.
    """
    return value


@node("PrimitiveBoolean", category="utils/primitive", title="Boolean")
def primitive_boolean(*, value: bool) -> bool:
    """True or false.

    Args:
        value: Which.
    """
    return value


@node("PreviewAny", category="utils", title="Preview Any", kind="sink")
def preview_any(*, source: Any) -> str:
    """Show any value as text: texts and numbers as they are, lists and tables as JSON, others in short.

    Args:
        source: What to show.
    """
    if source is None or isinstance(source, (str, int, float)):
        return str(source)
    try:
        return json.dumps(source, indent=4)
    except (TypeError, ValueError):
        return str(source)
