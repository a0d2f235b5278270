"""Fails when a source file or function has outgrown what a reader can hold: 400 lines a file, 60 a function."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE_LINES, FUNCTION_LINES = 400, 60


def problems(path: Path) -> list[str]:
    """What is too long in a file."""
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    lines = text.count("\n")
    found = [f"{name}: {lines} lines, at most {FILE_LINES}"] if lines > FILE_LINES else []
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (item.end_lineno or item.lineno) - item.lineno + 1
            if length > FUNCTION_LINES:
                found.append(f"{name}:{item.lineno}: {item.name} has {length} lines, at most {FUNCTION_LINES}")
    return found


def main() -> int:
    """Prints what is too long, and the total."""
    files = [
        path
        for folder in ("nodegraph", "nodes", "server", "training")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    found = [problem for path in files for problem in problems(path)]
    print(
        "\n".join(found) or f"{len(files)} files, {sum(path.read_text('utf-8').count(chr(10)) for path in files)} lines"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
