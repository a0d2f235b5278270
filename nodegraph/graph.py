"""The graph of a workflow: nodes and links, frozen; orders and cycles without recursion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nodegraph.workflow import Workflow

if TYPE_CHECKING:
    import networkx


SKIP, MUTE = "skip", "mute"
REROUTE = "Reroute"
"""Type of the nodes that stand for what is linked to their one input, `value`."""


class Ref(NamedTuple):
    """A link: an output of a node, by slot number or by output name."""

    node: str
    slot: int | str


class Node(NamedTuple):
    """A node of the graph; each input is a JSON literal or a `Ref`."""

    id: str
    class_type: str
    inputs: Mapping[str, Any]


class Gap(NamedTuple):
    """Why a link brings nothing.

    Attributes:
        what: in words, such as `node 5 (VAEDecode) is muted`.
        fix: what to do about it.
        node: the node that brings nothing.
        input: its input that would bring something, if there is one.
    """

    what: str
    fix: str
    node: str
    input: str | None = None


class CycleError(ValueError):
    """The links form a circle; `path` names the nodes in the direction of the links, the first again at the end."""

    def __init__(self, path: list[str]) -> None:
        self.path = path
        super().__init__(" -> ".join(path))


@dataclass(frozen=True)
class Graph:
    """Nodes by id. Links may point at nothing: planning reports that.

    Attributes:
        nodes: by id.
        modes: how nodes that do not run as they are stand in the document, by id; see `modes`.
        gaps: why linked inputs bring nothing, by node and name.
    """

    nodes: Mapping[str, Node]
    modes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    gaps: Mapping[tuple[str, str], Gap] = field(default_factory=dict[tuple[str, str], Gap])

    @classmethod
    def of(cls, workflow: Workflow) -> Graph:
        """The graph of a document."""
        found: dict[str, Node] = {}
        modes: dict[str, Any] = {}
        for name, node in workflow.nodes.items():
            found[name] = Node(name, node.class_type, {key: input_value(item) for key, item in node.inputs.items()})
            if node.mode is not None or node.class_type == REROUTE:
                modes[name] = SKIP if node.mode is None else node.mode
        return cls(found, modes)

    def order(self, targets: Iterable[str]) -> list[str]:
        """The targets and all they need, upstream first; depth first, so that a branch ends before the next begins.

        Args:
            targets: ids; those not in the graph are left out.

        Raises:
            CycleError: the targets need a circle.
        """
        done: list[str] = []
        is_open: dict[str, bool] = {}  # True while a node's upstream is being visited
        nodes = self.nodes
        stack: list[tuple[str, Iterator[str]]] = []
        for target in targets:
            if target in is_open or target not in nodes:
                continue
            is_open[target] = True
            stack.append((target, links(nodes[target])))
            while stack:
                name, rest = stack[-1]
                for source in rest:
                    state = is_open.get(source)
                    if state is None:
                        if source in nodes:
                            is_open[source] = True
                            stack.append((source, links(nodes[source])))
                            break
                    elif state:
                        path = [item for item, _ in stack]
                        raise CycleError([source, *reversed(path[path.index(source) :])])
                else:
                    stack.pop()
                    is_open[name] = False
                    done.append(name)
        return done

    @cached_property
    def digraph(self) -> networkx.DiGraph[str]:
        """The links as a networkx graph from source to user; a view for analysis, made when first asked for."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from(
            (source, name) for name, node in self.nodes.items() for source in links(node) if source in self.nodes
        )
        return graph

    def cycles(self, within: Iterable[str]) -> list[list[str]]:
        """One circle of links `[a, b, ..., a]` for each knot among these nodes."""
        import networkx

        view = self.digraph.subgraph(within)
        found: list[list[str]] = []
        for knot in networkx.strongly_connected_components(view):
            first = next(iter(knot))
            if len(knot) > 1 or view.has_edge(first, first):
                edges = cast("list[tuple[str, str]]", networkx.find_cycle(view.subgraph(knot)))  # pyright: ignore[reportUnknownMemberType]  # its stub names no result
                found.append([edges[0][0], *(edge[1] for edge in edges)])
        return found

    def rough_order(self, targets: Iterable[str]) -> list[str]:
        """The targets and all they need, upstream first as far as circles let it."""
        import networkx

        found = {target: None for target in targets if target in self.nodes}
        stack = list(found)
        while stack:
            for source in links(self.nodes[stack.pop()]):
                if source not in found and source in self.nodes:
                    found[source] = None
                    stack.append(source)
        knots = networkx.condensation(self.digraph.subgraph(found))
        return [name for knot in networkx.topological_sort(knots) for name in sorted(knots.nodes[knot]["members"])]


def links(node: Node) -> Iterator[str]:
    """Ids of the nodes a node's inputs come from, in the order of its inputs."""
    for value in node.inputs.values():
        if type(value) is Ref:
            yield value.node


def input_value(value: Any) -> Any:
    """An input as written -> a `Ref` for `[id, slot]`, a list for `{"__value__": [...]}`, else itself."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # any JSON value
    if kind is list and len(value) == 2 and type(value[0]) is str:
        slot = value[1]
        if type(slot) is str or type(slot) is int:
            return Ref(value[0], slot)
        if type(slot) is float and slot.is_integer():
            return Ref(value[0], int(slot))
    elif kind is dict and len(value) == 1 and "__value__" in value:
        return value["__value__"]
    return value
