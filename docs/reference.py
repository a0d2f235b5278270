"""Rewrites the reference of the built-in nodes in docs/nodes.md from their specs: `python docs/reference.py`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import nodes
from nodegraph import describe
from nodegraph.registry import Registry
from nodegraph.spec import Input, NodeSpec

PAGE = Path(__file__).with_name("nodes.md")
BEGIN = "<!-- reference: written by docs/reference.py -->"
END = "<!-- end of reference -->"


def with_reference(page: str) -> str:
    """The page with the part between its two markers made anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n\n" + reference() + "\n" + END + rest.split(END)[1]


def reference() -> str:
    """A section for each category, in it one for each node."""
    specs = sorted(Registry().with_module(nodes), key=lambda spec: (spec.category, spec.name))
    lines: list[str] = []
    for category, found in groupby(specs, key=lambda spec: spec.category):
        lines += [f"### {category}", ""]
        for spec in found:
            lines += _node(spec)
    return "\n".join(lines)


def _node(spec: NodeSpec) -> list[str]:
    kind = {"pure": "", "sink": " A sink.", "control": " A control node."}[spec.kind]
    lines = [f"#### {spec.name}", "", f"{spec.doc}{kind}", ""]
    if spec.inputs:
        lines += ["| input | takes | default | |", "|---|---|---|---|", *map(_row, spec.inputs), ""]
    return [*lines, f"Gives {_outputs(spec)}.", ""]


def _row(item: Input) -> str:
    default = "required" if item.is_required else f"`{describe.default(item).removeprefix('default ')}`"
    marks = " Lazy." * item.is_lazy + " Takes a whole list." * item.is_list
    cells = [f"`{item.name}`", _cell(describe.expected(item)), _cell(default), _cell(item.doc) + marks]
    return f"| {' | '.join(cells)} |"


def _outputs(spec: NodeSpec) -> str:
    names = [
        f"`{output.name}`" + (f" ({output.port})" if output.port != output.name else "") + ", a list" * output.is_each
        for output in spec.outputs
    ]
    return "; ".join(names) or "nothing"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


if __name__ == "__main__":
    PAGE.write_text(with_reference(PAGE.read_text("utf-8")), "utf-8")
