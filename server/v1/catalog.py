"""Node types at hand."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import ConfigDict, Field, RootModel

from nodegraph import describe
from nodegraph.spec import NodeSpec
from server.problems import Refusal, View
from server.v1.details import NodeDetails, NodeSummary, Port, details, has_words, in_order, names_only
from server.v1.models import PLAIN
from server.v1.operation import Answer, Call, operation
from server.v1.reading import Flag, Parameters
from server.web import answer_of


class NodeType(NodeSummary):
    """A node type."""

    module: str
    inputs: dict[str, dict[str, Any]] = Field(description="JSON Schema of each, with `port`, `required`, `link_only`")
    outputs: list[Port]


class NodeList(View):
    """Node types, by category and name."""

    nodes: list[NodeSummary]
    failures: dict[str, str] = Field(description="node files that did not load, with the reason")


class NodeAnswer(RootModel[NodeDetails | NodeList]):
    """Node types: in short, or in detail where that was asked for."""

    model_config = ConfigDict(defer_build=True)


class NodesQuery(Parameters):
    """Which node types."""

    search: str = Field(default="", max_length=200, pattern=PLAIN, description="words in name, title or category")
    detail: Flag = Field(
        default=False, description="all of each, workflows as nodes too, and the names of the files that inputs take"
    )


class NodePath(Parameters):
    """A node type."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="id of a node type")]


@operation("GET", "/v1/nodes", tag="catalog", scope="run", answers={
    200: Answer("Node types.", NodeAnswer, headers={"ETag": "of the answer in detail; for If-None-Match"}),
    304: Answer("They are as the client has them."),
})  # fmt: skip
async def list_nodes(call: Call, *, query: NodesQuery) -> NodeList | web.Response:
    """Lists the node types at hand."""
    desk = call.service.desk
    session = await desk.session()
    words = tuple(query.search.casefold().split())
    if query.detail:
        return answer_of(call.request, await desk.do(details, session, words))
    specs = in_order(spec for spec in session.registry if has_words(spec, words))
    return NodeList(nodes=[_summary(spec) for spec in specs], failures=names_only(session.registry.failures))


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


def _summary(spec: NodeSpec) -> NodeSummary:
    return NodeSummary(name=spec.name, title=spec.title, category=spec.category, doc=spec.doc, kind=spec.kind)
