"""Cuts ComfyUI's table of nodes down to the nodes that are here, for `test_interfaces.py`.

    python -m tests.parity.interfaces FILE

FILE is JSON by node id: `inputs`, required ones first, each with `name`, `type`, `required` and where it has them
`default`, `min`, `max`, `options`; `outputs`, each with `name`, `type` and `list`, true for a list that maps the nodes
after it. The result is `interfaces.json` beside this module: write it again when nodes are added. Options that are
files of the machine it was taken on are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from nodegraph.registry import Registry
from nodegraph.spec import NodeSpec

REDUCED = Path(__file__).parent / "interfaces.json"
KEPT = ("name", "type", "required", "default", "min", "max", "options")


def reduced(interface: dict[str, Any], spec: NodeSpec) -> dict[str, Any]:
    """What is compared of an interface."""
    inputs = [{key: item[key] for key in KEPT if key in item} for item in interface["inputs"]]
    for item in inputs:
        own = spec.by_name.get(item["name"])
        if own is not None and own.file is not None:
            item.pop("options", None)
    outputs = [[item["name"], item["type"], item["list"]] for item in interface["outputs"]]
    return {"inputs": inputs, "outputs": outputs}


def main() -> None:
    """Writes `interfaces.json`, a line for each node."""
    theirs = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    ours = Registry().with_entry_points().specs
    lines = [f"{json.dumps(name)}: {json.dumps(reduced(theirs[name], ours[name]))}"
             for name in sorted(ours) if name in theirs]  # fmt: skip
    REDUCED.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
