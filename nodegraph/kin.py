"""Values that belong together, such as a model and the prompts encoded for it: told apart at planning, by family.

Ports marked as kin carry the family of the file they come from. A node that loads one names it (`family=`); what other
nodes give is of the family of what they take. A node that does both, such as one that puts a LoRA on a model, wants its
file to be of the family of what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from nodegraph.errors import NodegraphError, Problem
from nodegraph.graph import Ref
from nodegraph.types import FileRef

if TYPE_CHECKING:
    from nodegraph.plan import Step


class Origin(NamedTuple):
    """A family, and the node that loaded something of it."""

    family: str
    node: str


def strangers(steps: Mapping[str, Step]) -> list[Problem]:
    """Nodes that are given values of more than one family.

    Args:
        steps: upstream first.
    """
    found: dict[str, Origin] = {}
    problems: list[Problem] = []
    for name, step in steps.items():
        spec = step.spec
        own = None if spec.family is None else _family(step)
        given = {item: origin for item in spec.kin_inputs if (origin := _origin(step.arguments.get(item), found))}
        if not given:
            if own:
                found[name] = Origin(own, name)
        else:
            first, origin = next(iter(given.items()))
            found[name] = origin
            if own and own != origin.family:
                problems.append(_stranger(step, name, own, f"{first} is of {origin.family} (from node {origin.node})"))
            problems += [
                Problem(
                    f"{item} is of {other.family} (from node {other.node}) but {first} of {origin.family} (from node "
                    f"{origin.node})", name, spec.name, input=item, expected="both of one family",
                    fix="load both from one checkpoint", type="return_type_mismatch",
                )
                for item, other in given.items() if other.family != origin.family
            ]  # fmt: skip
    return problems


def _stranger(step: Step, name: str, own: str, other: str) -> Problem:
    """A node whose file is of another family than what it takes."""
    item = next((item for item in step.spec.inputs if item.file is not None), step.spec.inputs[-1])
    written = step.arguments.get(item.name)
    file = repr(written.name) if isinstance(written, FileRef) else item.name
    return Problem(
        f"{file} is of {own} but {other}", name, step.spec.name, input=item.name, expected="both of one family",
        fix="choose one made for this model", type="return_type_mismatch",
    )  # fmt: skip


def _origin(argument: object, found: Mapping[str, Origin]) -> Origin | None:
    return found.get(argument.node) if type(argument) is Ref else None


def _family(step: Step) -> str | None:
    """What the node itself says of its literal inputs; nothing where the file cannot be read, which others tell."""
    assert step.spec.family is not None
    literals = {name: value for name, value in step.arguments.items() if type(value) is not Ref}
    try:
        return step.spec.family(**literals)
    except (NodegraphError, ValueError, OSError, TypeError):
        return None
