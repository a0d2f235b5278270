"""Values that belong together, such as a model and the prompts encoded for it: told apart at planning, by family.

Ports marked as kin carry the family of the file they come from. A node that loads one names it (`family=`); what other
nodes give is of the family of what they take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from nodegraph.errors import NodegraphError, Problem
from nodegraph.graph import Ref

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
        if spec.family is not None:
            family = _family(step)
            if family:
                found[name] = Origin(family, name)
        elif spec.kin_inputs:
            given = {item: origin for item in spec.kin_inputs if (origin := _origin(step.arguments.get(item), found))}
            if not given:
                continue
            first, origin = next(iter(given.items()))
            found[name] = origin
            problems += [
                Problem(
                    f"{item} is of {other.family} (from node {other.node}) but {first} of {origin.family} (from node "
                    f"{origin.node})", name, spec.name, input=item, expected="both of one family",
                    fix="load both from one checkpoint", type="return_type_mismatch",
                )
                for item, other in given.items() if other.family != origin.family
            ]  # fmt: skip
    return problems


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
