"""Waiting for what a page says."""

from __future__ import annotations

from typing import Any

SCRIPT = """async ([arg, seconds]) => {
  const test = %s;
  const end = performance.now() + 1000 * seconds;
  while (!(await test(arg))) {
    if (performance.now() > end) throw new Error(`not within ${seconds} s`);
    await new Promise(requestAnimationFrame);
  }
}"""


def wait_until(page: Any, predicate: str, arg: Any = None, *, seconds: float = 20) -> None:
    """Waits until an async function of the page gives true; `wait_for_function` takes its promise for true."""
    page.evaluate(SCRIPT % predicate, [arg, seconds])
