"""Engine overhead: CPU time per trivial node through the real parser, planner, executor and event stream.

    python benchmarks/overhead.py [--sizes 100 1000 10000 100000] [--repeats 3]

For each shape and size: a first run, the same again (fully cached), and the growth exponent of both (least squares on
the logarithms). Then one changed leaf in a chain of 1,000. CPU time of the process, all threads; the best of the
repeats, since other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable
from typing import Any

from nodegraph.registry import Registry
from nodegraph.session import Session, Settings
from nodegraph.spec import spec_of
from nodegraph.workflow import Workflow

Nodes = dict[str, Any]


def source(*, value: int = 0) -> int:
    """A number."""
    return value


def add(*, a: int, b: int = 1) -> int:
    """A sum."""
    return a + b


REGISTRY = Registry().with_specs([spec_of(source, "Source"), spec_of(add, "Add")])


def chain(size: int) -> Nodes:
    """Each node feeds the next."""
    nodes: Nodes = {"0": {"class_type": "Source", "inputs": {"value": 1}}}
    for i in range(1, size):
        nodes[str(i)] = {"class_type": "Add", "inputs": {"a": [str(i - 1), 0], "b": i}}
    return nodes


def fan(size: int) -> Nodes:
    """One source feeds all others; every one of them is a target."""
    nodes: Nodes = {"0": {"class_type": "Source", "inputs": {"value": 1}}}
    for i in range(1, size):
        nodes[str(i)] = {"class_type": "Add", "inputs": {"a": ["0", 0], "b": i}}
    return nodes


def ladder(size: int) -> Nodes:
    """Diamonds one after the other: two nodes side by side, then one that joins them."""
    nodes: Nodes = {"0": {"class_type": "Source", "inputs": {"value": 1}}}
    top = "0"
    for i in range(1, size - 2, 3):
        nodes[str(i)] = {"class_type": "Add", "inputs": {"a": [top, 0], "b": i}}
        nodes[str(i + 1)] = {"class_type": "Add", "inputs": {"a": [top, 0], "b": -i}}
        nodes[str(i + 2)] = {"class_type": "Add", "inputs": {"a": [str(i), 0], "b": [str(i + 1), 0]}}
        top = str(i + 2)
    return nodes


def targets(shape: Callable[[int], Nodes], nodes: Nodes) -> list[str]:
    """What is asked for: the last node, or all of a fan."""
    return list(nodes)[1:] if shape is fan else [list(nodes)[-1]]


def once(session: Session, nodes: Nodes, wanted: list[str]) -> tuple[float, int, int]:
    """(CPU seconds, nodes run, events) of one run from the parsed JSON on."""
    gc.collect()
    start = time.process_time()
    prepared = session.prepare(Workflow.of({"nodegraph": 1, "nodes": nodes}), wanted)
    running = session.submit(prepared)
    events = sum(1 for _ in running)
    running.release()
    seconds = time.process_time() - start
    assert running.finished is not None and running.finished.status == "success"
    return seconds, running.finished.ran, events


def measure(shape: Callable[[int], Nodes], size: int, repeats: int) -> tuple[float, float, float]:
    """Best CPU seconds (first, cached) and events per node."""
    nodes = shape(size)
    wanted = targets(shape, nodes)
    first = cached = math.inf
    events = 0
    for _ in range(repeats):
        with Session(Settings(device="cpu", cache_dir=None), registry=REGISTRY) as session:
            seconds, ran, events = once(session, nodes, wanted)
            assert ran == len(nodes)
            first = min(first, seconds)
            for _ in range(2):
                seconds, ran, _ = once(session, nodes, wanted)
                assert ran == 0
                cached = min(cached, seconds)
    return first, cached, events / len(nodes)


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope of log seconds over log size."""
    xs, ys = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def edit(repeats: int) -> None:
    """One changed leaf in a chain of 1,000, all else cached."""
    best = math.inf
    for number in range(max(5, repeats)):
        nodes = chain(1000)
        with Session(Settings(device="cpu", cache_dir=None), registry=REGISTRY) as session:
            once(session, nodes, ["999"])
            nodes["999"] = {"class_type": "Add", "inputs": {"a": ["998", 0], "b": -1 - number}}
            seconds, ran, _ = once(session, nodes, ["999"])
            assert ran == 1
            best = min(best, seconds)
    print(f"one changed leaf in a chain of 1,000: {best * 1000:.1f} ms, 1 node run")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    measure(chain, 50, 1)
    print(f"{'shape':8} {'nodes':>8} {'first us/node':>14} {'cached us/node':>15} {'events/node':>12}")
    for shape in (chain, fan, ladder):
        firsts: list[float] = []
        cacheds: list[float] = []
        for size in given.sizes:
            first, cached, events = measure(shape, size, given.repeats)
            firsts.append(first)
            cacheds.append(cached)
            row = f"{first / size * 1e6:14.1f} {cached / size * 1e6:15.1f} {events:12.2f}"
            print(f"{shape.__name__:8} {size:8} {row}", flush=True)
        print(
            f"{shape.__name__:8} exponent {exponent(given.sizes, firsts):13.2f} {exponent(given.sizes, cacheds):15.2f}"
        )
    edit(given.repeats)


if __name__ == "__main__":
    main()
