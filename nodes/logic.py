"""Control: which branch runs, and how often. These nodes pass handles on and never touch a tensor."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nodegraph.context import Context
from nodegraph.spec import node
from nodegraph.types import Each, File, FileRef, Lazy, Port, Widget

Times = Annotated[int, Field(ge=0, le=10_000)]
Lines = Annotated[str, Widget(multiline=True)]


@node("Switch", category="logic")
async def switch(*, condition: bool, on_true: Lazy[Any], on_false: Lazy[Any]) -> Any:
    """Pass one of two inputs on; the other is not run, and editing it re-runs nothing.

    Args:
        condition: Which one.
        on_true: Passed on when the condition holds.
        on_false: Passed on when it does not.
    """
    return on_true if condition else on_false


@node("Reroute", category="utils")
def reroute(*, value: Annotated[Any, Port("*")]) -> Any:
    """Stand for what is linked to it: a bend in a wire. It never runs and is in no key.

    Args:
        value: What it passes on.
    """
    return value


@node("Repeat", category="logic")
async def repeat(
    *, ctx: Context, workflow: Annotated[FileRef, File("workflows")], value: Lazy[Any], times: Times = 2
) -> Any:
    """Apply a workflow over and over: its first declared output feeds its first declared input.

    Args:
        workflow: A workflow of the library with at least one input and one output.
        value: What goes in at first.
        times: How often; 0 passes the value on.
    """
    from nodegraph.documents import open_document

    inputs = list(open_document(workflow.path).workflow.inputs)
    if not inputs:
        raise ValueError(f"{workflow.name} declares no inputs; the first one takes the value")
    for i in range(times):
        value = ctx.expand(f"workflow:{workflow.name}", name=str(i), **{inputs[0]: value})[0]
    return value


@node("TextLines", category="logic")
def text_lines(*, text: Lines) -> Each[str]:
    """Each line of a text that is not blank; what follows runs once a line.

    Args:
        text: One item a line.
    """
    return Each(line.strip() for line in text.splitlines() if line.strip())
