"""Node types and models at hand."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from nodegraph import describe
from nodegraph.errors import FileProblem, did_you_mean
from nodegraph.files import ALIASES, Folders
from nodegraph.spec import NodeSpec
from server.problems import Refusal, View
from server.v1.models import PLAIN, moment
from server.v1.operation import Answer, Call, operation
from server.v1.reading import Parameters


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


class NodeType(NodeSummary):
    """A node type."""

    module: str
    inputs: dict[str, dict[str, Any]] = Field(description="JSON Schema of each, with `port`, `required`, `link_only`")
    outputs: list[Port]


class NodeList(View):
    """Node types, by category and name."""

    nodes: list[NodeSummary]
    failures: dict[str, str] = Field(description="node files that did not load, with the reason")


class ModelKind(View):
    """A kind of model."""

    kind: str
    models: int = Field(description="how many there are")


class ModelKinds(View):
    """Kinds of models."""

    kinds: list[ModelKind]


class Model(View):
    """A model file, or a folder as diffusers saves them."""

    name: str
    bytes: int
    modified: datetime | None


class Models(View):
    """Models of a kind, by name."""

    kind: str
    models: list[Model]


class NodesQuery(Parameters):
    """Which node types."""

    search: str = Field(default="", max_length=200, pattern=PLAIN, description="words in name, title or category")


class NodePath(Parameters):
    """A node type."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="id of a node type")]


class KindPath(Parameters):
    """A kind of model."""

    kind: Annotated[str, Field(min_length=1, max_length=100, description="such as `checkpoints`")]


@operation("GET", "/v1/nodes", tag="catalog", scope="run", answers={200: Answer("Node types.", NodeList)})
async def list_nodes(call: Call, *, query: NodesQuery) -> NodeList:
    """Lists the node types at hand."""
    registry = await call.service.desk.registry()
    words = query.search.casefold().split()
    specs = sorted((spec for spec in registry if _has(spec, words)), key=lambda spec: (spec.category, spec.name))
    return NodeList(nodes=[_summary(spec) for spec in specs], failures=_names_only(registry.failures))


@operation("GET", "/v1/nodes/{name}", tag="catalog", scope="run", problems=(404,),
           answers={200: Answer("The node type.", NodeType)})  # fmt: skip
async def get_node(call: Call, *, path: NodePath) -> NodeType:
    """Tells all about a node type: inputs with limits and defaults, outputs."""
    registry = await call.service.desk.registry()
    spec = registry.get(path.name)
    if spec is None:
        near = registry.nearest(path.name)
        hint = f"did you mean {near!r}?" if near else "GET /v1/nodes lists them"
        raise Refusal("not-found", f"no node type {path.name!r} is installed; {hint}")
    return NodeType.model_validate(describe.of_node(spec))


@operation("GET", "/v1/models", tag="catalog", scope="run", answers={200: Answer("Kinds of models.", ModelKinds)})
async def list_model_kinds(call: Call) -> ModelKinds:
    """Lists the kinds of models, and how many there are of each."""
    return await call.service.desk.do(_kinds, call.service.desk.folders)


@operation("GET", "/v1/models/{kind}", tag="catalog", scope="run", problems=(404,),
           answers={200: Answer("Models of the kind.", Models)})  # fmt: skip
async def list_models(call: Call, *, path: KindPath) -> Models:
    """Lists the models of a kind, as nodes name them."""
    folders = call.service.desk.folders
    kind = ALIASES.get(path.kind, path.kind)
    if kind not in folders.models:
        near = did_you_mean(path.kind, folders.models) or "GET /v1/models lists them"
        raise Refusal("not-found", f"{path.kind!r} is no kind of model; {near}")
    return await call.service.desk.do(_models, folders, kind)


def _has(spec: NodeSpec, words: list[str]) -> bool:
    text = f"{spec.name} {spec.title} {spec.category}".casefold()
    return all(word in text for word in words)


def _summary(spec: NodeSpec) -> NodeSummary:
    return NodeSummary(name=spec.name, title=spec.title, category=spec.category, doc=spec.doc, kind=spec.kind)


def _names_only(failures: Any) -> dict[str, str]:
    """Failures without the folders of the files."""
    return {str(place).replace("\\", "/").rpartition("/")[2]: str(reason) for place, reason in failures.items()}


def _kinds(folders: Folders) -> ModelKinds:
    return ModelKinds(kinds=[ModelKind(kind=kind, models=len(folders.names(kind))) for kind in folders.models])


def _models(folders: Folders, kind: str) -> Models:
    found: list[Model] = []
    for name in folders.names(kind):
        try:
            path = folders.path(kind, name)
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            status = path.stat()
            size = sum(file.stat().st_size for file in files)
        except (OSError, FileProblem):  # it went meanwhile
            continue
        found.append(Model(name=name, bytes=size, modified=moment(status.st_mtime)))
    return Models(kind=kind, models=found)
