"""What a command asks of a workflow: its declared inputs as options, `--set`, `--inputs` and seeds."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from nodegraph import describe
from nodegraph.cli.arguments import Parser, UsageError
from nodegraph.cli.terminal import Terminal
from nodegraph.cli.values import Values
from nodegraph.documents import checked_json
from nodegraph.errors import WorkflowError, did_you_mean
from nodegraph.graph import MUTE, Ref, input_value
from nodegraph.session import Session
from nodegraph.spec import MISSING, Input
from nodegraph.workflow import Workflow, split_address

SEEDS = ("seed", "noise_seed")
LARGEST_SEED = 2**53 - 1  # for drawn seeds: what JSON readers that use doubles keep


class Seed(NamedTuple):
    """A node input that holds a seed: its value now and the range it may have."""

    address: str
    value: int
    low: int
    high: int


class Request:
    """A workflow with what the command line sets.

    Attributes:
        workflow: with its values in place.
        seeds: where its seeds are.
    """

    def __init__(self, workflow: Workflow, seeds: list[Seed]) -> None:
        self.workflow, self.seeds = workflow, seeds

    def nth(self, number: int) -> tuple[Workflow, int | None]:
        """The workflow of run `number` from 0, its seeds counted up -> (workflow, its first seed)."""
        if not self.seeds:
            return self.workflow, None
        values = {
            seed.address: seed.low + (seed.value - seed.low + number) % (seed.high - seed.low + 1)
            for seed in self.seeds
        }
        return self.workflow if number == 0 else self.workflow.with_values(values), next(iter(values.values()))


def add_values(parser: Parser) -> None:
    """Options that set values in any workflow."""
    group = parser.add_argument_group("values")
    group.add_argument("--set", action="append", default=[], metavar="ADDRESS=VALUE", dest="sets",
                       help="set a node input (3.steps, KSampler.steps, 'My Title.text') or a declared input; "
                            "@FILE reads the value from a file, json:... is JSON (repeatable)")  # fmt: skip
    group.add_argument("--force", action="store_true", help="let --set replace a link")
    group.add_argument("--inputs", metavar="FILE", help="JSON object of declared inputs; - reads stdin")
    group.add_argument("--seed", metavar="INT", help="set every seed of the workflow")
    group.add_argument("--randomize-seeds", action="store_true", help="draw a seed, tell it, and use it as --seed does")


def add_declared(parser: Parser, workflow: Workflow, inputs: Mapping[str, Input | None]) -> dict[str, str]:
    """Adds an option for every declared input -> options by input name. A name that is taken is left to --set."""
    flags: dict[str, str] = {}
    group = parser.add_first_group(f"inputs of {workflow.name or 'this workflow'}")
    for name, item in inputs.items():
        flag = "--" + "-".join(name.replace("_", "-").split())
        if item is not None and not describe.is_value(item):
            continue
        text = _help(workflow, name, item)
        if flag == "--seed":
            parser.options[flag].help = text
            flags[name] = flag
        elif flag not in parser.options and f"--no-{flag[2:]}" not in parser.options:
            flags[name] = flag
            dest, shown = f"input {name}", "TEXT" if item is None else describe.metavar(item)
            if item is not None and item.port == "BOOLEAN":
                group.add_argument(flag, dest=dest, help=text, metavar=shown, nargs="?", const="true")
                no = f"--no-{flag[2:]}"
                group.add_argument(no, dest=dest, help=f"{flag} false", action="store_const", const="false")
            else:
                group.add_argument(flag, dest=dest, help=text, metavar=shown)
    return flags


def request(
    workflow: Workflow, args: argparse.Namespace, flags: Mapping[str, str], inputs: Mapping[str, Input | None],
    session: Session, terminal: Terminal,
) -> Request:  # fmt: skip
    """The workflow with what the options set.

    Raises:
        UsageError: a value does not fit, an input is unknown or has no value, an address names nothing.
    """
    values = Values(session.folders, terminal)
    given = _from_file(args.inputs, inputs, values) if args.inputs else {}
    for name, flag in flags.items():
        text = args.seed if flag == "--seed" else vars(args)[f"input {name}"]
        if text is not None:
            given[name] = values.of_text(flag, text, inputs[name])
    places: dict[str, Any] = {}
    for written in args.sets:
        address, equals, text = written.partition("=")
        if not equals or not address:
            raise UsageError(f"--set {written}: expected ADDRESS=VALUE, such as 3.steps=30")
        if address in inputs:
            given[address] = values.of_text(f"--set {address}", text, inputs[address])
        else:
            place, item = _address(workflow, address, session, is_forced=args.force)
            places[place] = values.of_text(f"--set {address}", text, item)
    missing = [name for name, item in workflow.inputs.items() if item.required and name not in given]
    if missing:
        doc = workflow.inputs[missing[0]].doc
        how = flags.get(missing[0], f"--set {missing[0]}=...")
        raise UsageError(f"input {missing[0]!r} has no value; give {how}" + (f" ({doc})" if doc else ""))
    changed = workflow.with_inputs(given).with_values(places)
    return _seeded(changed, args, session, flags)


def read_stdin() -> bytes:
    """All of stdin."""
    return sys.stdin.buffer.read()


def is_link(value: Any) -> bool:
    """True for `[id, slot]` as documents write links."""
    return isinstance(input_value(value), Ref)


def _help(workflow: Workflow, name: str, item: Input | None) -> str:
    declared = workflow.inputs[name]
    if item is None:
        text = declared.doc
    else:
        facts = describe.expected(item) if item.choices or item.limits or item.file else ""
        initial = "required" if declared.required else describe.default(item)
        text = f"{item.doc} ({'; '.join(filter(None, [facts, initial]))})".strip()
    return text.replace("%", "%%")


def _from_file(name: str, inputs: Mapping[str, Input | None], values: Values) -> dict[str, Any]:
    """Declared inputs from a JSON file or stdin."""
    try:
        text = read_stdin() if name == "-" else Path(name).expanduser().read_bytes()
        found = checked_json(text)
    except OSError as error:
        raise UsageError(f"--inputs {name}: cannot be read: {error.strerror}") from None
    except WorkflowError as error:
        raise UsageError(f"--inputs {name}: {error.problems[0].what}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--inputs {name}: not UTF-8 text") from None
    if not isinstance(found, dict):
        raise UsageError(f'--inputs {name}: expected a JSON object of declared inputs, such as {{"seed": 7}}')
    given = cast("dict[str, Any]", found)
    for key in given:
        if key not in inputs:
            fix = did_you_mean(key, inputs) or (
                f"it has {', '.join(inputs)}" if inputs else "this workflow declares none"
            )
            raise UsageError(f"--inputs {name}: {key!r} is no declared input; {fix}")
    return {key: values.of_json(f"--inputs {key}", value, inputs[key]) for key, value in given.items()}


def _address(workflow: Workflow, address: str, session: Session, *, is_forced: bool) -> tuple[str, Input | None]:
    """`KSampler.steps` -> `3.steps` and the input there."""
    name, field = split_address(address)
    if not field:
        fix = did_you_mean(address, workflow.inputs)
        raise UsageError(
            f"--set {address}: is no declared input; " + (fix or "write NODE.INPUT for an input of a node")
        )
    node = _node(workflow, address, name)
    document = workflow.nodes[node]
    spec = session.spec(document.class_type)
    if spec is not None and field not in spec.by_name:
        fix = did_you_mean(field, spec.by_name) or f"it has {', '.join(spec.by_name) or 'none'}"
        raise UsageError(f"--set {address}: node {node} ({spec.name}) has no input {field!r}; {fix}")
    if is_link(document.inputs.get(field)) and not is_forced:
        raise UsageError(
            f"--set {address}: it is linked to node {document.inputs[field][0]}; --force replaces the link"
        )
    return f"{node}.{field}", None if spec is None else spec.by_name[field]


def _node(workflow: Workflow, address: str, name: str) -> str:
    """A node by its id, or by a title or type that only one has."""
    nodes = workflow.nodes
    if name in nodes:
        return name
    titles = {key: str((node.meta or {}).get("title", "")) for key, node in nodes.items()}
    types = {key: node.class_type for key, node in nodes.items()}
    for names in (titles, types):
        found = [key for key, value in names.items() if value.casefold() == name.casefold()]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(f"{key} ({titles[key] or types[key]})" for key in found)
            raise UsageError(f"--set {address}: {name!r} stands for several nodes: {ids}; write the id of one")
    known = [*nodes, *filter(None, titles.values()), *types.values()]
    fix = did_you_mean(name, dict.fromkeys(known)) or f"it has {', '.join(f'{key} ({types[key]})' for key in nodes)}"
    raise UsageError(f"--set {address}: no node {name!r}; {fix}")


def _seeded(workflow: Workflow, args: argparse.Namespace, session: Session, flags: Mapping[str, str]) -> Request:
    declared = next((name for name, flag in flags.items() if flag == "--seed"), None)
    seeds = _seeds(workflow, workflow.inputs[declared].bind if declared else None, session)
    chosen: int | None = None
    if args.randomize_seeds:
        if args.seed is not None:
            raise UsageError("--seed and --randomize-seeds: give one of them")
        low, high = max([0, *(seed.low for seed in seeds)]), min([LARGEST_SEED, *(seed.high for seed in seeds)])
        chosen = low + secrets.randbelow(max(1, high - low + 1))
    elif args.seed is not None and declared is None:
        chosen = _whole("--seed", args.seed)
    if chosen is None or not seeds:
        return Request(workflow, seeds)
    for seed in seeds:
        if not seed.low <= chosen <= seed.high:
            raise UsageError(f"--seed: {chosen} does not fit {seed.address}; expected {seed.low} to {seed.high}")
    seeds = [seed._replace(value=chosen) for seed in seeds]
    return Request(workflow.with_values({seed.address: chosen for seed in seeds}), seeds)


def _seeds(workflow: Workflow, bound: Iterable[str] | None, session: Session) -> list[Seed]:
    """Seeds of a workflow: those its declared seed binds, else every node input of that name with a value."""
    present = [node for node, document in workflow.nodes.items() if document.mode != MUTE]
    places = list(bound) if bound is not None else [f"{node}.{field}" for node in present for field in SEEDS]
    found: list[Seed] = []
    for place in places:
        node, field = split_address(place)
        spec = session.spec(workflow.nodes[node].class_type)
        item = spec.by_name.get(field) if spec is not None else None
        value = workflow.nodes[node].inputs.get(field, None if item is None else item.default)
        limits: Mapping[str, float] = {} if item is None else item.limits
        low = int(limits["ge"]) if "ge" in limits else 0
        high = int(limits["le"]) if "le" in limits else 2**64 - 1
        if value is MISSING:
            value = low
        elif type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and (item is not None or spec is None):
            found.append(Seed(place, value, low, high))
    return found


def _whole(where: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{where}: {text!r} does not fit; expected a whole number") from None
