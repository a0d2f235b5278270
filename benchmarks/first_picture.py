"""Time from process start to the first picture with the starter model, and how it splits; then the same from the disk
cache, and with another seed.

    python benchmarks/first_picture.py [--repeats 3]

Each row is a new process. `wall` counts from the parent's spawn to the child's exit; the parts are measured inside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a large red sphere on a white background"
STAGES = {"CLIPTextEncode": "text", "KSampler": "sampling", "VAEDecode": "decode", "ImageUpscaleWithModel": "upscale",
          "SaveImage": "save"}  # fmt: skip


def child(home: Path, seed: int) -> dict[str, float]:
    """One picture in this process -> seconds by stage."""
    parts = dict.fromkeys(("import nodegraph", "import torch", "plan", "load", *STAGES.values()), 0.0)
    start = time.perf_counter()
    from nodegraph.events import NodeFinished
    from nodegraph.session import Session, Settings

    parts["import nodegraph"] = time.perf_counter() - start
    start = time.perf_counter()
    session = Session(Settings(home=home, device="cpu"))
    document = session.open("text_to_image")
    prepared = session.prepare(document.workflow.with_inputs({"prompt": PROMPT, "seed": seed}), scope=document.origin)
    parts["plan"] = time.perf_counter() - start
    is_at_hand = prepared.plan.steps["9"].key in session.cache
    if not is_at_hand:
        start = time.perf_counter()
        import torch  # noqa: F401

        parts["import torch"] = time.perf_counter() - start
    running = session.submit(prepared)
    for event in running:
        if isinstance(event, NodeFinished) and event.class_type in STAGES:
            parts[STAGES[event.class_type]] += event.seconds
    loads = {key[0]: model.seconds for key, model in session.models.loaded.items()}
    parts["load"] = sum(loads.values())
    for stage, role in (("text", "clip"), ("sampling", "unet"), ("decode", "vae"), ("upscale", "upscaler")):
        parts[stage] -= sum(seconds for name, seconds in loads.items() if name.startswith(role))
    session.close()
    return parts


def measure(home: Path, seed: int) -> dict[str, float]:
    """One row: the child's parts, and wall and CPU seconds around it."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, __file__, "--child", str(home), str(seed)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "CPU": cpu, **json.loads(out.splitlines()[-1])}


def main() -> None:
    """Prints the table; each row is the one of least wall time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(Path(given.child[0]), int(given.child[1]))))
        return
    rows: dict[str, list[dict[str, float]]] = {"first": [], "same again": [], "other seed": []}
    for _ in range(given.repeats):
        with tempfile.TemporaryDirectory() as home:
            for (_, found), seed in zip(rows.items(), (7, 7, 8), strict=True):
                found.append(measure(Path(home), seed))
    names = list(rows["first"][0])
    print(f"{'seconds':12}" + "".join(f"{name:>18}" for name in names))
    for label, found in rows.items():
        best = min(found, key=lambda row: row["wall"])
        print(f"{label:12}" + "".join(f"{best[name]:18.2f}" for name in names))


if __name__ == "__main__":
    main()
