"""Node types in detail: all that an editor needs of them in one answer, kept as long as it is true."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, Field

from nodegraph import describe
from nodegraph.errors import FileProblem
from nodegraph.files import Folders
from nodegraph.session import Session
from nodegraph.spec import NodeSpec
from nodegraph.subgraph import PREFIX
from server.problems import View
from server.web import Page

Names = tuple[tuple[str, tuple[str, ...]], ...]
Stamps = tuple[tuple[str, int, int], ...]


class Port(View):
    """An output of a node."""

    name: str
    port: str = Field(description="type of the link")
    is_list: bool = Field(description="true when what follows runs once for each item")


class NodeSummary(View):
    """A node type, in short."""

    name: str
    title: str
    category: str
    doc: str
    kind: str = Field(description="`pure`, `sink` or `control`")


class InputDetail(View):
    """An input of a node; what is not set is left out: `default`, `choices`, limits, and hints for its widget."""

    model_config = ConfigDict(extra="allow")

    name: str
    port: str = Field(description="type of the link it takes")
    required: bool
    link_only: bool = Field(description="true when no value can be written for it, only a link")
    is_list: bool
    is_lazy: bool
    doc: str


class NodeDetail(NodeSummary):
    """A node type with all there is to know of it."""

    module: str
    workflow: str | None = Field(description="the name of the workflow it stands for")
    inputs: list[InputDetail]
    outputs: list[Port]


class NodeDetails(View):
    """Node types in detail, by category and name."""

    nodes: list[NodeDetail]
    files: dict[str, list[str]] = Field(description="names of the files there are, by the kind that inputs take")
    failures: dict[str, str] = Field(description="node files that did not load, with the reason")


def details(session: Session, words: tuple[str, ...]) -> Page:
    """Node types in detail; made anew only when files or workflows came, went or changed. Blocks.

    Args:
        session: its registry stays as it is.
        words: only node types that have all of them.
    """
    kinds = sorted({item.file.kind for spec in session.registry for item in spec.inputs if item.file is not None})
    names = tuple((kind, tuple(session.folders.names(kind))) for kind in kinds)
    return _text(session, words, names, _stamps(session.folders))


def has_words(spec: NodeSpec, words: Iterable[str]) -> bool:
    """True when all words are in name, title or category."""
    text = f"{spec.name} {spec.title} {spec.category}".casefold()
    return all(word in text for word in words)


def in_order(specs: Iterable[NodeSpec]) -> list[NodeSpec]:
    """Node types by category and name."""
    return sorted(specs, key=lambda spec: (spec.category, spec.name))


def names_only(failures: Mapping[str, str]) -> dict[str, str]:
    """Failures without the folders of the files."""
    return {place.replace("\\", "/").rpartition("/")[2]: reason for place, reason in failures.items()}


@lru_cache(maxsize=2)
def _text(session: Session, words: tuple[str, ...], names: Names, workflows: Stamps) -> Page:
    known: list[NodeSpec] = list(session.registry)
    known += [spec for name, *_ in workflows if (spec := session.spec(PREFIX + name)) is not None]
    found: dict[str, Any] = {
        "nodes": [describe.in_detail(spec) for spec in in_order(spec for spec in known if has_words(spec, words))],
        "files": dict(names), "failures": names_only(session.registry.failures),
    }  # fmt: skip
    body = json.dumps(found, separators=(",", ":")).encode()
    packed = gzip.compress(body, 6, mtime=0)
    return Page(body, packed, "application/json; charset=utf-8", hashlib.blake2b(body, digest_size=12).hexdigest())


def _stamps(folders: Folders) -> Stamps:
    """The workflows of the library with time and size, which tell when one was changed."""
    found: list[tuple[str, int, int]] = []
    for name in folders.names("workflows"):
        try:
            status = folders.path("workflows", name).stat()
        except (OSError, FileProblem):  # it went meanwhile
            continue
        found.append((name.removesuffix(".json"), status.st_mtime_ns, status.st_size))
    return tuple(found)
