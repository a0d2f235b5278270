"""Random graphs of trivial nodes, edits of them, and a model that says what they give and what has to run.

The model shares nothing with the engine: it knows no keys, only recipes, which are interned tuples of a node's type,
code and inputs. A node has to run when its value is wanted and its recipe is new.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from nodegraph.registry import Registry
from nodegraph.spec import NODE_ATTRIBUTE, node
from nodegraph.types import File, FileRef
from tests.nodegraph.trivial import REGISTRY

Link = tuple[str, int]
Document = dict[str, dict[str, Any]]
FILES = ("one.txt", "two.txt", "copy.txt")
ALIKE = [
    [1, True, 1.0, "1"],
    [0.0, -0.0, 0, False, 0.0, -0.0],
    [{"a": 1}, {"a": 1.0}, {"__value__": [1, "a"]}],
    [2**70, float(2**70)],
]
LITERALS = [value for group in ALIKE for value in group]
CONTROL = ("Switch", "Unrolled")
DEFAULTS: dict[str, dict[str, Any]] = {
    "Const": {"value": 0}, "Add": {"b": 1}, "Mul": {"b": 1}, "DivMod": {"b": 3}, "Always": {"a": 0},
    "AsyncAdd": {"b": 1},
    "Pick": {"mode": "left", "limit": 0}, "Unrolled": {"step": 1}, "Text": {"text": ""},
}  # fmt: skip


@node("ReadText", category="t", lane="io")
def read_text(*, file: Annotated[FileRef, File("input")]) -> str:
    return Path(file.path).read_text()


def registry(code: int) -> Registry:
    """The trivial nodes; `code` is which version of Mul there is."""
    spec = replace(REGISTRY.specs["Mul"], function=_mul(code), version=f"v{code}")
    others = [other for other in REGISTRY if other.name != "Mul"]
    return Registry().with_specs([*others, spec, getattr(read_text, NODE_ATTRIBUTE)])


def _mul(code: int) -> Any:
    return lambda *, a, b: 3 * a + (5 + code) * b


# Generating


class Maker:
    """Makes and edits documents; nodes are kept upstream first."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.number = 0

    def document(self, size: int) -> Document:
        found: Document = {}
        for _ in range(size):
            self.add(found)
        self.show(found)
        return found

    def add(self, found: Document) -> None:
        chance = self.chance
        kind = chance.choice([
            "Const", "Echo", "Echo", "Add", "Add", "Mul", "Mul", "Mul", "DivMod", "DivMod", "Pick", "Range", "Sum",
            "Switch", "Switch",
            "Unrolled", "Always", "AsyncAdd", "ReadText", "Text", "Copy",
        ])  # fmt: skip
        self.number += 1
        if kind == "Copy" and found:
            found[str(self.number)] = json.loads(json.dumps(found[chance.choice(list(found))]))
            return
        found[str(self.number)] = {
            "class_type": "Const" if kind == "Copy" else kind,
            "inputs": self.inputs(kind, found),
        }

    def inputs(self, kind: str, found: Document) -> dict[str, Any]:
        chance = self.chance
        whole = lambda: self.link(found, "INT") or chance.randrange(-3, 4)  # noqa: E731
        match kind:
            case "Const" | "Copy":
                return {"value": chance.randrange(-3, 4)} if chance.random() < 0.8 else {}
            case "Echo":
                return {"value": self.link(found, "ANY", 0.4) or chance.choice(LITERALS)}
            case "Text":
                return {"text": chance.choice(["", "a", 1, 1.0, "1"])}
            case "ReadText":
                return {"file": chance.choice(FILES)}
            case "Range":
                return {"n": chance.randrange(0, 4)}
            case "Sum":
                return {"items": whole()}
            case "Switch":
                port = chance.choice(["INT", "ANY"])
                return {
                    "condition": chance.random() < 0.5,
                    "on_true": self.link(found, port) or 1,
                    "on_false": self.link(found, port) or 2,
                }
            case "Unrolled":
                return {
                    "times": chance.randrange(0, 4),
                    "value": self.link(found, "INT") or 1,
                    "step": chance.randrange(1, 3),
                }
            case "Always":
                return {"a": whole()}
            case "Pick":
                return {"a": whole(), "b": whole(), "mode": chance.choice(["left", "right", "middle"])}
        return {"a": whole()} | ({"b": whole()} if chance.random() < 0.8 else {})

    def link(self, found: Document, port: str, likely: float = 0.85) -> list[Any] | None:
        """A link to a node before; INT means that it gives whole numbers."""
        fitting = [
            (name, slot) for name in found for slot in slots(found, name) if port == "ANY" or is_whole(found, name)
        ]
        if not fitting or self.chance.random() > likely:
            return None
        name, slot = self.chance.choice(fitting[-8:])
        named = found[name]["class_type"] == "DivMod" and self.chance.random() < 0.5
        return [name, ("quotient", "remainder")[slot] if named else slot]

    def show(self, found: Document) -> None:
        """Sinks over a few nodes."""
        for name in [name for name in found if found[name]["class_type"] == "Show"]:
            del found[name]
        for number in range(self.chance.randrange(1, 4)):
            link = self.link(found, "ANY", 1.0)
            found[f"show{number}"] = {"class_type": "Show", "inputs": {"value": link or 1}}

    def edited(self, document: Document) -> Document:
        """The document after one change: a literal, links, swapped inputs, a type, a new node, other sinks, new ids."""
        found: Document = json.loads(json.dumps(document))
        chance = self.chance
        name = chance.choice(list(found))
        before = {key: found[key] for key in found if list(found).index(key) < list(found).index(name)}
        body = found[name]
        match chance.choice(
            ["inputs", "inputs", "literal", "literal", "swap", "type", "add", "show", "order", "none", "slot"]
        ):
            case "inputs" if body["class_type"] != "Show":
                body["inputs"] = self.inputs(body["class_type"], before)
            case "literal" if body["class_type"] == "Echo":
                same = [
                    group for group in ALIKE if any(_words(body["inputs"]["value"]) == _words(value) for value in group)
                ]
                body["inputs"]["value"] = chance.choice(same[0]) if same else body["inputs"]["value"]
            case "literal":
                for key, value in body["inputs"].items():
                    if type(value) is int and key != "times":
                        body["inputs"][key] = value + 1 if key != "n" else min(3, value + 1)
                    elif type(value) is bool and body["class_type"] == "Switch":
                        body["inputs"][key] = not value
            case "swap":
                for one, other in (("a", "b"), ("on_true", "on_false")):
                    if (
                        one in body["inputs"]
                        and other in body["inputs"]
                        and is_alike(found, body["inputs"][one], body["inputs"][other])
                    ):
                        body["inputs"][one], body["inputs"][other] = body["inputs"][other], body["inputs"][one]
            case "type" if body["class_type"] in ("Add", "Mul", "AsyncAdd"):
                body["class_type"] = chance.choice(["Add", "Mul", "AsyncAdd"])
            case "slot":
                for value in body["inputs"].values():
                    if type(value) is list and found[value[0]]["class_type"] == "DivMod":
                        value[1] = 1 - {"quotient": 0, "remainder": 1}.get(value[1], value[1])
            case "add":
                shows = {key: found.pop(key) for key in list(found) if found[key]["class_type"] == "Show"}
                self.add(found)
                found |= shows
                self.show(found)
            case "show":
                self.show(found)
            case "order":
                names = {key: f"n{chance.randrange(10**6)}_{key}" for key in found if not key.startswith("show")}
                found = {names.get(key, key): _renamed(body, names) for key, body in found.items()}
        return found if is_sound(found) else document


def _renamed(body: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    inputs = {
        key: [names[value[0]], value[1]] if type(value) is list else value for key, value in body["inputs"].items()
    }
    return {"class_type": body["class_type"], "inputs": dict(reversed(inputs.items()))}


def slots(found: Document, name: str) -> range:
    return range({"DivMod": 2, "Show": 0}.get(found[name]["class_type"], 1))


def is_whole(found: Document, name: str) -> bool:
    """True when a node gives whole numbers, or lists of them."""
    body = found[name]
    if body["class_type"] == "Switch":
        return all(
            type(body["inputs"][key]) is int or is_whole(found, body["inputs"][key][0])
            for key in ("on_true", "on_false")
        )
    return body["class_type"] not in ("Echo", "ReadText", "Text", "Show")


def is_sound(found: Document) -> bool:
    """True when whatever takes whole numbers still gets them."""
    return all(
        type(value) is not list or is_whole(found, value[0])
        for body in found.values()
        if body["class_type"] not in ("Echo", "Switch", "Show")
        for value in body["inputs"].values()
    )


def is_alike(found: Document, one: Any, other: Any) -> bool:
    return all(type(value) is int or (type(value) is list and is_whole(found, value[0])) for value in (one, other))


# The model


class Item(NamedTuple):
    """A node of the model: type, inputs as (`link`, name, slot) or (`literal`, value)."""

    kind: str
    inputs: dict[str, tuple[Any, ...]]


class Model:
    """What a document gives, and what has to run given the recipes that are known."""

    def __init__(
        self, document: Document, files: dict[str, str], code: int, interned: dict[Any, int], run: int
    ) -> None:
        self.items: dict[str, Item] = {}
        self.aliases: dict[str, tuple[Any, ...]] = {}
        self.recipes: dict[str, int] = {}
        self.values: dict[str, tuple[Any, ...]] = {}
        self.run = run
        for name, body in document.items():
            inputs = {**{k: ("literal", v) for k, v in DEFAULTS.get(body["class_type"], {}).items()}, **_inputs(body)}
            self._enter(name, Item(body["class_type"], inputs), files, code, interned)
        self.targets = [name for name, body in document.items() if body["class_type"] == "Show"]

    def follow(self, part: tuple[Any, ...]) -> tuple[Any, ...]:
        while part[0] == "link" and part[1] in self.aliases:
            part = self.aliases[part[1]]
        return part

    def wanted(self, known: set[int]) -> set[int]:
        """Recipes that have to run."""
        found: set[int] = set()
        values, names = list(self.targets), list(self.targets)
        seen_values: set[str] = set()
        seen: set[str] = set()
        while values or names:
            while names:  # identities: control nodes on the way run, and want their literal inputs' values
                name = names.pop()
                if name in seen:
                    continue
                seen.add(name)
                for part in self.items[name].inputs.values():
                    while part[0] == "link":
                        if part[1] not in self.aliases:
                            names.append(part[1])
                            break
                        part = self.aliases[part[1]]
            while values:
                name = values.pop()
                if name in seen_values or self.recipes[name] in known:
                    continue
                seen_values.add(name)
                found.add(self.recipes[name])
                sources = [self.follow(part) for part in self.items[name].inputs.values()]
                values += [part[1] for part in sources if part[0] == "link"]
                names += [part[1] for part in sources if part[0] == "link"]
        return found

    def _enter(self, name: str, item: Item, files: dict[str, str], code: int, interned: dict[Any, int]) -> None:
        if item.kind == "Switch":
            self.aliases[name] = item.inputs["on_true" if item.inputs["condition"][1] else "on_false"]
        elif item.kind == "Unrolled":
            last = item.inputs["value"]
            for number in range(item.inputs["times"][1]):
                inner = f"{name}.{number + 1}"
                self._enter(inner, Item("Add", {"a": last, "b": item.inputs["step"]}), files, code, interned)
                last = ("link", inner, 0)
            self.aliases[name] = last
        else:
            self.items[name] = item
            self.recipes[name] = interned.setdefault(self._recipe(name, item, files, code), len(interned))
            self.values[name] = self._value(item, files, code)

    def _recipe(self, name: str, item: Item, files: dict[str, str], code: int) -> Any:
        parts: list[Any] = [
            item.kind,
            code if item.kind == "Mul" else 0,
            (self.run, name) if item.kind == "Always" else None,
        ]
        for key in sorted(item.inputs):
            part = self.follow(item.inputs[key])
            if part[0] == "link":
                parts.append((key, "link", self.recipes[part[1]], part[2]))
            elif item.kind == "ReadText":
                parts.append((key, "file", files[part[1]]))
            else:
                parts.append((key, "literal", _words(str(part[1]) if item.kind == "Text" else part[1])))
        return tuple(parts)

    def _value(self, item: Item, files: dict[str, str], code: int) -> tuple[Any, ...]:
        given = {}
        for key, value in item.inputs.items():
            part = self.follow(value)
            given[key] = self.values[part[1]][part[2]] if part[0] == "link" else part[1]
        if item.kind == "Sum":
            items = given["items"] if isinstance(given["items"], Many) else [given["items"]]
            return (sum((index + 1) * one for index, one in enumerate(items)),)
        lists = [value for value in given.values() if isinstance(value, Many)]
        if not lists:
            return _call(item.kind, given, files, code)
        longest = max(map(len, lists)) if all(lists) else 0
        rows = [
            _call(
                item.kind,
                {k: v[min(i, len(v) - 1)] if isinstance(v, Many) else v for k, v in given.items()},
                files,
                code,
            )
            for i in range(longest)
        ]
        return tuple(Many(row[slot] for row in rows) for slot in range(2 if item.kind == "DivMod" else 1))


class Many(list[Any]):
    """A list that maps what follows."""


def _call(kind: str, given: dict[str, Any], files: dict[str, str], code: int) -> tuple[Any, ...]:
    match kind:
        case "Add" | "AsyncAdd":
            return (given["a"] + given["b"],)
        case "Mul":
            return (3 * given["a"] + (5 + code) * given["b"],)
        case "DivMod":
            return divmod(given["a"], given["b"]) if given["b"] else (0, given["a"])
        case "Pick":
            return (
                {"left": given["a"], "right": given["b"], "middle": (given["a"] + given["b"]) // 2}[given["mode"]]
                + given["limit"],
            )
        case "Range":
            return (Many(range(given["n"])),)
        case "Always":
            return (given["a"],)
        case "ReadText":
            return (files[given["file"]],)
        case "Text":
            return (str(given["text"]),)
    return (given["value"],)


def _inputs(body: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for key, value in body["inputs"].items():
        if type(value) is list:
            found[key] = ("link", value[0], {"quotient": 0, "remainder": 1}.get(value[1], value[1]))
        elif type(value) is dict and "__value__" in value:
            found[key] = ("literal", value["__value__"])
        else:
            found[key] = ("literal", value)
    return found


def _words(value: Any) -> str:
    """A literal with its type: 1, 1.0, True and "1" differ, as do 0.0 and -0.0."""
    return json.dumps(value, sort_keys=True)


def plain(value: Any) -> str:
    """A value as text, for comparing by type too; lists of either kind alike."""
    return json.dumps(value, sort_keys=True)
