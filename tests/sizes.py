"""Fails when a source file or function has outgrown what a reader can hold.

400 lines a file and 60 a function in Python, 300 lines a file in the canvas.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILE_LINES, FUNCTION_LINES, SCRIPT_LINES = 400, 60, 300


def problems(path: Path) -> list[str]:
    """What is too long in a file."""
    text = path.read_text("utf-8")
    name = path.relative_to(ROOT).as_posix()
    lines = lines_of(path)
    found = [f"{name}: {lines} lines, at most {FILE_LINES}"] if lines > FILE_LINES else []
    for item in ast.walk(ast.parse(text)):
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (item.end_lineno or item.lineno) - item.lineno + 1
            if length > FUNCTION_LINES:
                found.append(f"{name}:{item.lineno}: {item.name} has {length} lines, at most {FUNCTION_LINES}")
    return found


def lines_of(path: Path) -> int:
    """How many lines a file has."""
    return path.read_text("utf-8").count("\n")


def scripts() -> list[Path]:
    """The canvas's own files."""
    found = [path for ending in ("*.js", "*.css") for path in sorted((ROOT / "web").rglob(ending))]
    return [path for path in found if "vendor" not in path.parts]


def main() -> int:
    """Prints what is too long, and the totals."""
    files = [
        path
        for folder in ("nodegraph", "nodes", "server", "training")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    found = [problem for path in files for problem in problems(path)]
    for path in scripts():
        if lines_of(path) > SCRIPT_LINES:
            found.append(f"{path.relative_to(ROOT).as_posix()}: {lines_of(path)} lines, at most {SCRIPT_LINES}")
    totals = f"{len(files)} files, {sum(map(lines_of, files))} lines; web: {sum(map(lines_of, scripts()))} lines"
    print("\n".join(found) or totals)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
