"""Measures how well the starter model obeys: 400 prompts, a quarter of them with pairs never seen in training.

python -m training.measure

Every picture comes from the workflow `text_to_image`, run by the engine; the classifier of `judge.py`, which never saw
a model, says what is on it. Seed and prompts are fixed, and were not used for anything else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from training import captions
from training.scenes import Scene, random_scene

SEED = 7
_SHOWN = 6  # confusions of an attribute


class Question(NamedTuple):
    """A prompt and what it asks for."""

    group: str
    scene: Scene
    prompt: str


class Answer(NamedTuple):
    """What the classifier saw."""

    question: Question
    seen: dict[str, str]
    seconds: float

    def wrong(self) -> dict[str, tuple[str, str]]:
        """The attributes the prompt names that came out otherwise: wanted and seen."""
        return {name: (wanted, self.seen[name]) for name, wanted in _wanted(self.question.scene).items()
                if self.seen[name] != wanted}  # fmt: skip


def questions() -> list[Question]:
    """The 400 prompts."""
    rng = random.Random("measure")
    asked: list[Question] = []
    for two, what in ((0.0, "one object"), (1.0, "two objects")):
        for held, count in ((False, 150), (True, 50)):
            group = f"{what}, {'a held-out pair' if held else 'pairs seen'}"
            scenes = [random_scene(rng, two=two, held=held) for _ in range(count)]
            asked += [Question(group, scene, captions.plain(scene)) for scene in scenes]
    return asked


def _wanted(scene: Scene) -> dict[str, str]:
    first = scene.things[0]
    wanted = {"shape left": first.shape, "colour left": first.colour, "background": scene.background}
    if len(scene.things) == 2:
        return wanted | {"shape right": scene.things[1].shape, "colour right": scene.things[1].colour}
    wanted |= {"shape right": "none"}
    if first.size != "medium":
        wanted["size"] = first.size
    if first.place != "center":
        wanted["place"] = first.place
    return wanted


def _answer(task: tuple[Sequence[Question], argparse.Namespace]) -> list[Answer]:
    import torch

    import nodegraph
    from training import judge

    torch.set_num_threads(1)
    asked, chosen = task
    tell = judge.load()
    answers: list[Answer] = []
    roots = (chosen.models,) if chosen.models else ()
    with (
        tempfile.TemporaryDirectory() as home,
        nodegraph.Session(nodegraph.Settings(Path(home), cache_dir=None, model_roots=roots)) as session,
    ):
        picture = session.load("text_to_image")
        for question in asked:
            started = time.monotonic()
            image = picture(
                prompt=question.prompt, seed=SEED, steps=chosen.steps, cfg=chosen.cfg, sampler=chosen.sampler,
                scheduler=chosen.scheduler, checkpoint=chosen.checkpoint,
            ).image  # fmt: skip
            seconds = time.monotonic() - started
            answers.append(Answer(question, tell.tell(image)[0], seconds))
    return answers


def table(answers: Iterable[Answer]) -> str:
    """The shares of right pictures, by group, as a table in Markdown."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.question.group, []).append(answer)
        groups.setdefault(answer.question.group.split(",")[0] + ", all", []).append(answer)
    lines = ["| prompts | number | shape | colour | background | all three | size | place |", "|---" * 8 + "|"]
    for group, members in sorted(groups.items()):
        wrong = [answer.wrong() for answer in members]
        main = ("shape left", "shape right", "colour left", "colour right", "background")
        cells = [_share(members, wrong, names) for names in
                 (main[:2], main[2:4], main[4:], main, ("size",), ("place",))]  # fmt: skip
        lines.append(f"| {group} | {len(members)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(members: Sequence[Answer], wrong: Sequence[Mapping[str, object]], names: Sequence[str]) -> str:
    asked = [mistakes for answer, mistakes in zip(members, wrong, strict=True)
             if set(names) & set(_wanted(answer.question.scene))]  # fmt: skip
    if not asked:
        return "-"
    return f"{100 * sum(not set(names) & set(mistakes) for mistakes in asked) / len(asked):.0f} %"


def confusion(answers: Iterable[Answer]) -> str:
    """What was taken for what, most often first."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for answer in answers:
        for name, pair in answer.wrong().items():
            counts.setdefault(name.split()[0], Counter())[pair] += 1
    lines: list[str] = []
    for name, pairs in counts.items():
        shown = ", ".join(f"{wanted} seen as {seen} {n}" for (wanted, seen), n in pairs.most_common(_SHOWN))
        lines.append(f"- {name}: {sum(pairs.values())} wrong: {shown}")
    return "\n".join(lines)


def main() -> None:
    """Draws, judges and prints."""
    parser = argparse.ArgumentParser(prog="python -m training.measure")
    parser.add_argument("--checkpoint", default="starter.safetensors")
    parser.add_argument("--models", type=Path, help="folder of models to look in besides the shipped ones")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=6.0)
    parser.add_argument("--sampler", default="dpmpp_2m")
    parser.add_argument("--scheduler", default="karras")
    parser.add_argument("--every", type=int, default=1, help="take every n-th prompt")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    asked = questions()[:: chosen.every]
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        parts = pool.map(_answer, [(asked[n :: chosen.workers], chosen) for n in range(chosen.workers)])
    answers = [answer for part in parts for answer in part]
    seconds = sorted(answer.seconds for answer in answers)
    print(table(answers))
    print()
    print(confusion(answers))
    print(f"\n{seconds[len(seconds) // 2]:.2f} s a picture (median), {chosen.workers} at once on as many threads")


if __name__ == "__main__":
    main()
