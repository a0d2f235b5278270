"""Records of files inside values, turned to where the files are now.

A result is found by what its files hold, so a cached one may have been made while a file had another name or place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from nodegraph.types import Each


def placed(value: Any, places: Mapping[str, str]) -> Any:
    """The value with the `path` of every record that has a `digest` as well where that content lies.

    Args:
        value: of a node; looked into are tuples, lists, dictionaries and frozen dataclasses.
        places: paths by digest.

    Returns:
        The same object where nothing has moved.
    """
    if isinstance(value, (tuple, list)):
        return _sequence(cast(Any, value), places)
    if isinstance(value, dict):
        table = cast("dict[Any, Any]", value)
        new = {name: placed(item, places) for name, item in table.items()}
        return new if any(new[name] is not item for name, item in table.items()) else table
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    new = {name: placed(item, places) for name, item in fields.items()}
    digest, path = new.get("digest"), new.get("path")
    if isinstance(digest, str) and isinstance(path, str) and digest in places:
        new["path"] = _place(path, places[digest])
    return dataclasses.replace(value, **new) if any(new[name] is not item for name, item in fields.items()) else value


def _sequence(items: Any, places: Mapping[str, str]) -> Any:
    new = [placed(item, places) for item in items]
    if all(one is other for one, other in zip(items, new, strict=True)):
        return items
    if isinstance(items, Each):
        return Each(new)
    return type(items)(*new) if hasattr(items, "_fields") else type(items)(new)


def _place(path: str, now: str) -> str:
    """The path, or where its file is now; a part of a folder that holds several has its own below."""
    inside = Path(now, Path(path).name)
    found = str(inside) if inside.is_dir() else now
    return path if found == path else found
