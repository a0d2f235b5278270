"""Planning: every problem of a graph at once, and for a sound one the order and the keys. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from nodegraph.errors import (
    FileProblem,
    Kind,
    NodegraphError,
    Problem,
    WorkflowError,
    did_you_mean,
)
from nodegraph.graph import CycleError, Graph, Node, Ref
from nodegraph.keys import (
    canonical,
    digest,
    file_part,
    input_tag,
    link_part,
    literal_part,
    node_key,
    node_prefix,
)
from nodegraph.kin import strangers
from nodegraph.mistakes import literal_problems, missing, misspelt, not_a_link, report_link
from nodegraph.registry import Registry
from nodegraph.spec import MISSING, Input, NodeSpec, wants_files
from nodegraph.types import FileRef, accepts


class Files(Protocol):
    """Finds the files that documents name."""

    def find(self, kind: str, name: str) -> FileRef:
        """The file of this name. Raises FileProblem when there is none."""
        ...

    def names(self, kind: str) -> list[str]:
        """The names of the files of a kind."""
        ...


class Step(NamedTuple):
    """A node that passed the checks.

    Attributes:
        id: id in the graph.
        spec: its type.
        arguments: every input: a checked literal, a `FileRef`, or a `Ref` with a slot number.
        parts: what its key is made of, by input, where already known.
        key: its key; None when only a control node upstream decides it.
        given: the inputs as the document has them.
    """

    id: str
    spec: NodeSpec
    arguments: Mapping[str, Any]
    parts: tuple[bytes, ...]
    key: bytes | None
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to run: the wanted nodes, and every step they need, upstream first."""

    targets: tuple[str, ...]
    steps: Mapping[str, Step]


class _Row(NamedTuple):
    name: str
    tag: bytes
    item: Input
    default_part: bytes


class _Compiled(NamedTuple):
    """What planning needs of a node type, worked out once; `is_steady` when its key depends on the document alone."""

    spec: NodeSpec
    prefix: bytes
    rows: tuple[_Row, ...]
    is_steady: bool


class Planner:
    """Checks nodes and gives them keys.

    Args:
        registry: the node types.
        files: finds the files that inputs name.
        salt: digest of the settings that change results (device type, dtype policy, versions).
        sink_salt: digest of where sinks write; part of their keys alone.
        fresh: gives bytes that never repeat, for nodes that must run every time.
    """

    def __init__(
        self, registry: Registry, files: Files, *, salt: bytes = b"", sink_salt: bytes = b"",
        fresh: Callable[[], bytes] | None = None,
    ) -> None:  # fmt: skip
        self.registry, self.files, self._salt, self._sink_salt = registry, files, salt, sink_salt
        self._fresh = fresh or (lambda: b"")
        self._compiled: dict[str, _Compiled] = {}

    def plan(self, graph: Graph, targets: Iterable[str] | None = None, before: Plan | None = None) -> Plan:
        """The plan for these targets, by default every sink.

        Args:
            graph: the workflow.
            targets: ids of what is wanted.
            before: an earlier plan by such a planner, whose steps are taken over where nothing upstream changed.

        Raises:
            WorkflowError: with every problem of the nodes the targets need.
        """
        wanted, problems = self._targets(graph, targets)
        try:
            order: Iterable[str] = graph.order(wanted)
        except CycleError:
            order = graph.rough_order(wanted)
            problems += [
                Problem("its links form a circle: " + " -> ".join(path), path[0], graph.nodes[path[0]].class_type,
                        expected="links in one direction", fix="remove one of these links", type="cycle")
                for path in graph.cycles(order)
            ]  # fmt: skip
        old: Mapping[str, Step] = {} if before is None else before.steps
        steps = self.steps((graph.nodes[name] for name in order), {}, graph, problems, old)
        problems += strangers(steps)
        if problems:
            raise WorkflowError(problems)
        return Plan(wanted, steps)

    def sinks(self, graph: Graph) -> tuple[str, ...]:
        """Ids of the nodes that have effects."""
        kinds = {name: spec.kind for name, spec in self.registry.specs.items()}
        return tuple(name for name, node in graph.nodes.items() if kinds.get(node.class_type) == "sink")

    def steps(
        self, nodes: Iterable[Node], known: Mapping[str, Step], graph: Graph, problems: list[Problem],
        old: Mapping[str, Step] = MappingProxyType({}),
    ) -> dict[str, Step]:  # fmt: skip
        """Steps of these nodes, which come upstream first; what is wrong is added to `problems`.

        Args:
            nodes: the nodes to check.
            known: steps made before, which the nodes may link to.
            graph: where links are looked up.
            problems: grows by what is found.
            old: steps of an earlier plan, to take over.
        """
        steps: dict[str, Step] = {}
        for node in nodes:
            compiled = self._compiled.get(node.class_type) or self._compile(node, problems)
            if compiled is not None:
                step = old.get(node.id)
                if step is not None and compiled.is_steady and _is_unchanged(step, node, compiled.spec, steps, old):
                    steps[node.id] = step
                    continue
                before = len(problems)
                step = self._step(node, compiled, steps, known, graph, problems)
                if len(problems) == before:
                    problems += self._checked(step)
                steps[node.id] = step
        return steps

    def _targets(self, graph: Graph, targets: Iterable[str] | None) -> tuple[tuple[str, ...], list[Problem]]:
        if targets is None:
            found = self.sinks(graph)
            if found:
                return found, []
            unknown = [node for node in graph.nodes.values() if node.class_type not in self.registry.specs]
            problems: list[Problem] = []
            for node in unknown:
                self._compile(node, problems)
            fix = "add a SaveImage or PreviewImage node, or declare outputs"
            problems.append(
                Problem("it has no outputs", expected="a node that saves something", fix=fix, type="prompt_no_outputs")
            )
            return (), problems
        wanted = tuple(dict.fromkeys(targets))
        return wanted, [
            Problem(f"target {name!r} is not in it", expected="the id of a node", fix=did_you_mean(name, graph.nodes))
            for name in wanted
            if name not in graph.nodes
        ]

    def _compile(self, node: Node, problems: list[Problem]) -> _Compiled | None:
        spec = self.registry.get(node.class_type)
        if spec is None:
            found = self.registry.nearest(node.class_type)
            fix = (
                f"did you mean {found!r}?"
                if found
                else "install the package that has it, or name its folder with --node-path"
            )
            if self.registry.failures:
                fix += "; these node files did not load: " + ", ".join(self.registry.failures)
            problems.append(
                Problem(f"no node type {node.class_type!r} is installed", node.id, None, fix=fix,
                        type="invalid_prompt", kind=Kind.MISSING_NODE)
            )  # fmt: skip
            return None
        salt = digest("sink", self._salt, self._sink_salt) if spec.kind == "sink" else self._salt
        rows: list[_Row] = []
        for item in spec.inputs:
            tag = input_tag(item.name)
            has_literal = item.default is not MISSING and item.file is None
            rows.append(_Row(item.name, tag, item, literal_part(tag, item.default) if has_literal else b""))
        is_steady = (
            spec.is_cached and not spec.fingerprint and not spec.check and not any(row.item.file for row in rows)
        )
        compiled = _Compiled(spec, node_prefix(spec.name, spec.version, salt), tuple(rows), is_steady)
        self._compiled[spec.name] = compiled
        return compiled

    def _step(
        self, node: Node, compiled: _Compiled, steps: Mapping[str, Step], known: Mapping[str, Step],
        graph: Graph, problems: list[Problem],
    ) -> Step:  # fmt: skip
        given, before = node.inputs, len(problems)
        spec = compiled.spec
        literals = {name: value for name, value in given.items() if type(value) is not Ref}
        if literals:
            try:
                literals = spec.validate(literals)
            except ValidationError as error:
                problems += literal_problems(node, spec, error)
        arguments: dict[str, Any] = {}
        parts: list[bytes] = []
        is_known = spec.kind != "control"
        for name, tag, item, default_part in compiled.rows:
            value = given.get(name, MISSING)
            if type(value) is Ref:
                source = steps.get(value.node) or known.get(value.node)
                slot = None if source is None else source.spec.slot(value.slot)
                if source is None or slot is None or not _fits(source.spec.outputs[slot].port, item):
                    report_link(node, item, value, source, slot, graph, problems)
                    continue
                arguments[name] = value if slot == value.slot else Ref(value.node, slot)
                if source.key is None:
                    is_known = False
                    parts.append(b"")
                else:
                    parts.append(link_part(tag, source.key, slot))
                continue
            if value is MISSING:
                value = item.default
                if value is MISSING:
                    problems.append(missing(node, item, graph.gaps.get((node.id, name))))
                    continue
                part = default_part
            elif item.literal is None:
                problems.append(not_a_link(node, item, value))
                continue
            elif name in literals:
                value = literals[name]
                part = b""
            else:
                continue
            if item.file is not None and value is not None:
                found = self._file(node, item, value, problems)
                if found is None:
                    continue
                value, part = found, file_part(tag, found.digest)
            arguments[name] = value
            parts.append(part or tag + canonical(value))
        if not given.keys() <= spec.by_name.keys():
            problems += misspelt(node, spec)
        if (spec.fingerprint is not None or not spec.is_cached) and len(problems) == before:
            self._add_outside(spec, arguments, node, parts, problems)
        key = node_key(compiled.prefix, parts) if is_known else None
        return Step(node.id, spec, arguments, tuple(parts), key, given)

    def key(self, step: Step, sources: Mapping[str, tuple[bytes, int] | Literal]) -> Step:
        """A step whose key had to wait, with its key.

        Args:
            step: the step.
            sources: for each linked input the key and slot it resolved to, or `Literal` for a plain value.
        """
        compiled = self._compiled[step.spec.name]
        parts = list(step.parts)
        for index, (name, tag, _, _) in enumerate(compiled.rows):
            source = sources.get(name)
            if source is not None:
                parts[index] = tag + canonical(source.value) if isinstance(source, Literal) else link_part(tag, *source)
        return step._replace(parts=tuple(parts), key=node_key(compiled.prefix, parts))

    def _file(self, node: Node, item: Input, name: Any, problems: list[Problem]) -> FileRef | None:
        assert item.file is not None
        try:
            return self.files.find(item.file.kind, str(name))
        except FileProblem as error:
            what, _, fix = str(error).partition("; ")
            problems.append(
                Problem(what, node.id, node.class_type, item.name, f"a file of kind {item.file.kind!r}", fix or None,
                        "value_not_in_list", Kind.MISSING_MODEL)
            )  # fmt: skip
            return None

    def _add_outside(
        self, spec: NodeSpec, arguments: Mapping[str, Any], node: Node, parts: list[bytes], problems: list[Problem]
    ) -> None:
        try:
            parts.append(self._outside(spec, arguments, node.id))
        except Exception as error:  # as for its check
            what = str(error) if isinstance(error, NodegraphError) else f"its fingerprint failed: {error!r}"
            problems.append(Problem(what, node.id, node.class_type, type="custom_validation_failed"))

    def _outside(self, spec: NodeSpec, arguments: Mapping[str, Any], node: str) -> bytes:
        part = b"" if spec.is_cached else digest("fresh", self._fresh(), node)
        if spec.fingerprint is not None:
            part += digest("fingerprint", self._call(spec.fingerprint, spec, arguments))
        return part

    def _checked(self, step: Step) -> list[Problem]:
        """What the node's own check says of its literal inputs."""
        if step.spec.check is None:
            return []
        try:
            found = list(self._call(step.spec.check, step.spec, step.arguments))
        except Exception as error:  # a user's check may fail in any way; the other problems must still be told
            found = [str(error) if isinstance(error, NodegraphError) else f"its check failed: {error!r}"]
        kinds = [Kind.MISSING_MODEL if isinstance(what, FileProblem) else Kind.INVALID for what in found]
        return [
            Problem(str(what), step.id, step.spec.name, type="custom_validation_failed", kind=kind)
            for what, kind in zip(found, kinds, strict=True)
        ]

    def _call(self, hook: Callable[..., Any], spec: NodeSpec, arguments: Mapping[str, Any]) -> Any:
        """A node's own hook on the inputs that are no links, and the data folders where it asks for them."""
        literals = {name: value for name, value in arguments.items() if type(value) is not Ref}
        if "files" not in spec.by_name and wants_files(hook):
            literals["files"] = self.files
        return hook(**literals)


class Literal(NamedTuple):
    """A plain value that a control node returned where a link was."""

    value: Any


_SCALARS = frozenset({int, float, str, bool, type(None)})


def _is_unchanged(step: Step, node: Node, spec: NodeSpec, steps: Mapping[str, Step], old: Mapping[str, Step]) -> bool:
    """True when a node and all upstream of it are as they were. Types are compared too, since 1 == 1.0 == True."""
    given: Mapping[str, object] = node.inputs
    before: Mapping[str, object] = step.given
    if step.spec is not spec or len(given) != len(before):
        return False
    for name, value in given.items():
        kind = type(value)
        if name not in before or type(before[name]) is not kind or before[name] != value:
            return False
        if kind is float and value == 0 and repr(value) != repr(before[name]):  # -0.0 == 0.0
            return False
        if type(value) is Ref:
            if steps.get(value.node) is not old.get(value.node):
                return False
        elif kind not in _SCALARS:
            return False
    return True


def numbered(ref: Ref, steps: Mapping[str, Step]) -> Ref:
    """A link from outside the graph with its slot as a number.

    Raises:
        WorkflowError: the node has no such output.
    """
    spec = steps[ref.node].spec
    slot = spec.slot(ref.slot)
    if slot is None:
        fix = did_you_mean(str(ref.slot), spec.slots)
        expected = ", ".join(spec.slots) or "nothing: it has no outputs"
        raise WorkflowError(
            [Problem(f"it has no output {ref.slot!r}", ref.node, spec.name, expected=expected, fix=fix)]
        )
    return Ref(ref.node, slot)


def _fits(port: str, item: Input) -> bool:
    return item.file is None and (port == item.port or accepts(port, item.port))
