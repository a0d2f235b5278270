"""Measures a server under load: 2,000 small runs from 50 clients, watched by 500 sockets, and a 5,000-node workflow.

    python benchmarks/serving.py [--runs 2000] [--clients 50] [--sockets 500]

Starts `nodegraph serve` with a home of its own. Prints submit latencies, how many runs were lost or came twice, how
fair the order was, the longest time the server's event loop was held up, and what a large workflow takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil

NODES = '''
from nodegraph import Context, node


@node("Number", category="test")
def number(*, value: int = 0) -> int:
    """Give a number."""
    return value


@node("Plus", category="test")
def plus(*, a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@node("Keep", category="test", kind="sink", lane="io")
def keep(*, ctx: Context, value: int = 0, name: str = "kept") -> None:
    """Save a number."""
    ctx.save(name, "txt", lambda file: file.write(str(value).encode()) and None)
'''


def graph_of(client: int, number: int) -> dict[str, Any]:
    """A run of three nodes that saves a file of its own."""
    return {
        "1": {"class_type": "Number", "inputs": {"value": client * 100_000 + number}},
        "2": {"class_type": "Plus", "inputs": {"a": ["1", 0]}},
        "3": {"class_type": "Keep", "inputs": {"value": ["2", 0], "name": f"{client}-{number}"}},
    }


def large_graph(nodes: int) -> dict[str, Any]:
    """A ladder of additions with one sink."""
    graph: dict[str, Any] = {"0": {"class_type": "Number", "inputs": {"value": int(time.time())}}}
    for index in range(1, nodes - 1):
        inputs = {"a": [str(index - 1), 0], "b": [str(max(0, index - 7)), 0]}
        graph[str(index)] = {"class_type": "Plus", "inputs": inputs}
    graph["sink"] = {"class_type": "Keep", "inputs": {"value": [str(nodes - 2), 0], "name": "large"}}
    return graph


def start(home: Path) -> tuple[subprocess.Popen[str], str, float]:
    """A server -> its process, its address, and the seconds to its first answer."""
    (home / "nodes").mkdir()
    (home / "nodes" / "small.py").write_text(NODES)
    places = ["--home", str(home), "--node-path", str(home / "nodes")]
    command = [sys.executable, "-m", "nodegraph", "serve", "--port", "0", "--no-browser", "--rate", "0", *places]
    log = open(home / "log", "w")  # the process has it
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.split()[-1].rstrip("/"), time.perf_counter() - began


async def submitter(http: aiohttp.ClientSession, url: str, client: int, runs: int, took: list[float]) -> list[str]:
    """One client: submits its runs one after the other."""
    ids: list[str] = []
    for number in range(runs):
        body = {"prompt": graph_of(client, number), "client_id": f"client {client}"}
        began = time.perf_counter()
        async with http.post(f"{url}/prompt", json=body) as answer:
            found = await answer.json()
        took.append(time.perf_counter() - began)
        ids.append(found["prompt_id"])
    return ids


async def watch(
    http: aiohttp.ClientSession, url: str, name: str, counts: dict[str, int], is_ready: asyncio.Event
) -> None:
    """One watching socket: counts what it is sent."""
    async with http.ws_connect(f"{url}/ws?clientId={name}") as ws:
        is_ready.set()
        async for message in ws:
            counts["messages"] += 1
            counts["bytes"] += len(message.data)


async def drained(http: aiohttp.ClientSession, url: str) -> None:
    """Waits until nothing waits or runs."""
    while True:
        async with http.get(f"{url}/prompt") as answer:
            if (await answer.json())["exec_info"]["queue_remaining"] == 0:
                return
        await asyncio.sleep(0.1)


async def lag(http: aiohttp.ClientSession, url: str) -> float:
    """The longest the loop was late in the last minute, seconds."""
    async with http.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found = re.search(r"^nodegraph_loop_lag_seconds (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else float("nan")


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of them lies, in ms."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def load(url: str, home: Path, runs: int, clients: int, sockets: int) -> None:
    """The queue under load."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        async with http.get(f"{url}/object_info/Number") as answer:
            assert await answer.json(), "the nodes are not there"
        counts = {"messages": 0, "bytes": 0}
        ready = [asyncio.Event() for _ in range(sockets)]
        watchers = [asyncio.create_task(watch(http, url, f"client {index % clients}", counts, ready[index]))
                    for index in range(sockets)]  # fmt: skip
        for event in ready:
            await event.wait()
        took: list[float] = []
        began = time.perf_counter()
        groups = await asyncio.gather(*(submitter(http, url, c, runs // clients, took) for c in range(clients)))
        submitted = time.perf_counter() - began
        await drained(http, url)
        done = time.perf_counter() - began
        async with http.get(f"{url}/history") as answer:
            history = await answer.json()
        ids = [run for group in groups for run in group]
        ends = {run: place for place, run in enumerate(history)}
        success = sum(entry["status"]["status_str"] == "success" for entry in history.values())
        files = len(list((home / "output").glob("*.txt")))
        print(f"{len(ids)} runs of {clients} clients, {sockets} sockets watching")
        print(
            f"  submit: median {percentile(took, 0.5):.1f} ms, p99 {percentile(took, 0.99):.1f} ms, "
            f"longest {1000 * max(took):.1f} ms; all submitted after {submitted:.2f} s, all done after {done:.2f} s"
        )
        print(f"  lost {len(set(ids) - set(ends))}, succeeded {success}, files {files}, in the history {len(history)}")
        middles = [statistics.mean(ends[run] for run in group) / len(ids) for group in groups]
        print(f"  mean place of a client's runs in the order: {min(middles):.2f} to {max(middles):.2f} (0.50 is fair)")
        print(f"  sent: {counts['messages']:,} messages, {counts['bytes'] / 1e6:.1f} MB")
        print(f"  event loop late by at most {1000 * await lag(http, url):.0f} ms")
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def large(url: str, nodes: int, home: Path) -> None:
    """One large workflow: submitted and planned, run, watched."""
    async with aiohttp.ClientSession() as http:
        counts, ready = {"messages": 0, "bytes": 0}, asyncio.Event()
        watcher = asyncio.create_task(watch(http, url, "large", counts, ready))
        await ready.wait()
        longest, over = 0.0, asyncio.Event()

        async def ping() -> None:
            nonlocal longest
            async with aiohttp.ClientSession() as other:
                while not over.is_set():
                    began = time.perf_counter()
                    async with other.get(f"{url}/healthz") as answer:
                        await answer.read()
                    longest = max(longest, time.perf_counter() - began)
                    await asyncio.sleep(0.002)

        pinging = asyncio.create_task(ping())
        body = json.dumps({"prompt": large_graph(nodes), "client_id": "large"}).encode()
        began = time.perf_counter()
        async with http.post(f"{url}/prompt", data=body, headers={"Content-Type": "application/json"}) as answer:
            found = await answer.json()
            assert answer.status == 200, found
        took = time.perf_counter() - began
        while True:
            async with http.get(f"{url}/history/{found['prompt_id']}") as answer:
                entry = await answer.json()
            if entry:
                break
            await asyncio.sleep(0.02)
        done = time.perf_counter() - began
        over.set()
        await pinging
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        print(f"{nodes:,} nodes ({len(body) / 1e6:.2f} MB): submitted, validated and planned in {took:.2f} s, done "
              f"after {done:.2f} s; {counts['messages']:,} messages, {counts['bytes'] / 1e6:.2f} MB "
              f"({counts['bytes'] / nodes:.0f} bytes a node)")  # fmt: skip
        print(f"  another client's request took at most {1000 * longest:.0f} ms meanwhile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--sockets", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        process, url, seconds = start(home)
        try:
            print(f"first address after {seconds:.2f} s, CPUs {os.cpu_count()}")
            time.sleep(4)  # the worker imports torch
            print(f"idle: {psutil.Process(process.pid).memory_info().rss / 1e6:.0f} MB")
            asyncio.run(load(url, home, args.runs, args.clients, args.sockets))
            for nodes in (1250, 2500, 5000):
                asyncio.run(large(url, nodes, home))
            print(f"after all that: {psutil.Process(process.pid).memory_info().rss / 1e6:.0f} MB")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
