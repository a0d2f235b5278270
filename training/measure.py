"""Measures how well the starter model obeys: 400 prompts, a quarter of them with pairs never seen in training.

python -m training.measure           the 400 prompts, with the workflow's own settings
python -m training.measure --sweep   fewer prompts with every sampler, at other guidance and sizes, in other words

Every picture comes from the workflow `text_to_image`, run by the engine as far as the VAE; the classifier of
`judge.py`, which never saw a model, says what is on it. Seed and prompts are fixed, and were used for nothing else.
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
from typing import Any, NamedTuple

from training import captions
from training.scenes import Scene, random_scene

SEED = 7
_SHOWN = 6  # confusions of an attribute
_SWEPT = 20  # prompts for each line of a sweep
_FEW: Mapping[str, Any] = {"scheduler": "simple", "cfg": 3.0}  # what few steps want: even steps, little guidance
_STRANGE = ("dinosaur", "greg rutkowski", "quantum", "bokeh", "1girl", "unreal engine", "impressionist", "raining")
_MAIN = ("shape left", "shape right", "colour left", "colour right", "background")


class Question(NamedTuple):
    """A prompt, what it asks for, and settings of the workflow that differ from its own."""

    group: str
    scene: Scene
    prompt: str
    settings: Mapping[str, Any] = {}


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


def sweep() -> list[Question]:
    """One-object prompts with other settings and other words."""
    from nodes.diffusion.samplers import CFG_PP, SAMPLERS

    rng = random.Random("sweep")
    scenes = [random_scene(rng, two=0) for _ in range(_SWEPT)]
    prompts = [captions.plain(scene) for scene in scenes]
    lines: dict[str, tuple[Sequence[str], Mapping[str, Any]]] = {}
    for sampler in SAMPLERS:
        lines[f"{sampler}, 8 steps, CFG 3"] = prompts, {"sampler": sampler, "steps": 8, **_FEW}
    for sampler in CFG_PP:
        lines[f"{sampler}, 8 steps, CFG 1.5"] = prompts, {"sampler": sampler, "steps": 8, **_FEW, "cfg": 1.5}
    for sampler in ("euler", "dpmpp_2m", "uni_pc", "deis", "ipndm", "heun"):
        lines[f"{sampler}, 4 steps, CFG 3"] = prompts, {"sampler": sampler, "steps": 4, **_FEW}
    for cfg in (1.0, 2.0, 4.0, 6.0, 9.0, 12.0):
        lines[f"CFG {cfg:g}"] = prompts, {"cfg": cfg}
    for width, height in ((192, 192), (192, 128), (128, 192)):
        lines[f"{width} x {height}"] = prompts, {"width": width, "height": height}
    lines["synonyms"] = [_synonyms(scene, rng) for scene in scenes], {}
    lines["unknown words added"] = [f"{prompt}, {', '.join(rng.sample(_STRANGE, 3))}" for prompt in prompts], {}
    lines["a long negative prompt"] = prompts, {"negative": "lowres, blurry, bad anatomy, worst quality, watermark"}
    for language in captions.TONGUES:
        lines[language] = [captions.foreign(scene, language) for scene in scenes], {}
    return [Question(line, scene, prompt, settings) for line, (texts, settings) in lines.items()
            for scene, prompt in zip(scenes, texts, strict=True)]  # fmt: skip


def _synonyms(scene: Scene, rng: random.Random) -> str:
    """The plain caption with other words for the same."""
    words = [*captions.SHAPE_WORDS.items(), *captions.COLOUR_WORDS.items(), *captions.SIZE_WORDS.items()]
    other = {name: rng.choice(sorted(set(group) - {name}) or [name]) for name, group in words}
    return " ".join(other.get(word, word) for word in captions.plain(scene).split())


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


def answers(asked: Sequence[Question], models: Path | None = None) -> list[Answer]:
    """Draws and judges in this process, on one thread."""
    import torch

    import nodegraph
    from training import judge
    from training.small import small

    torch.set_num_threads(1)
    tell = judge.load()
    found: list[Answer] = []
    roots = (models,) if models else ()
    with (
        tempfile.TemporaryDirectory() as home,
        nodegraph.Session(nodegraph.Settings(Path(home), cache_dir=None, model_roots=roots)) as session,
    ):
        draw = small(session)
        for question in asked:
            started = time.monotonic()
            image = draw(prompt=question.prompt, **{"seed": SEED, **question.settings}).image
            seconds = time.monotonic() - started
            found.append(Answer(question, tell.tell(_square(image))[0], seconds))
    return found


def _square(image: Any) -> Any:
    """The middle of a picture [B, H, W, 3], as high as wide."""
    height, width = image.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def table(found: Iterable[Answer], totals: bool = True) -> str:
    """The shares of right pictures, by group, as a table in Markdown."""
    groups: dict[str, list[Answer]] = {}
    for answer in found:
        group = answer.question.group
        groups.setdefault(group, []).append(answer)
        if totals:
            groups.setdefault(group.split(",")[0] + ", all", []).append(answer)
    lines = ["| prompts | number | shape | colour | background | all three | size | place |", "|---" * 8 + "|"]
    for group, members in groups.items():
        cells = [_share(members, names) for names in (_MAIN[:2], _MAIN[2:4], _MAIN[4:], _MAIN, ("size",), ("place",))]
        lines.append(f"| {group} | {len(members)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(members: Sequence[Answer], names: Sequence[str]) -> str:
    """In how many pictures that were asked for one of the attributes all of them are right."""
    wrong = [set(answer.wrong()) for answer in members if set(names) & set(_wanted(answer.question.scene))]
    return f"{100 * sum(not set(names) & mistakes for mistakes in wrong) / len(wrong):.0f} %" if wrong else "-"


def confusion(found: Iterable[Answer]) -> str:
    """What was taken for what, most often first."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for answer in found:
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
    parser.add_argument("--sweep", action="store_true", help="other settings and other words")
    parser.add_argument("--models", type=Path, help="folder of models to look in first")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the workflow")
    parser.add_argument("--lines", default="", metavar="TEXT", help="of a sweep, only lines with this in their name")
    parser.add_argument("--every", type=int, default=1, help="take every n-th prompt")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    changed: dict[str, Any] = {}
    for pair in chosen.set:
        name, _, value = pair.partition("=")
        changed[name] = float(value) if name == "cfg" else int(value) if value.isdigit() else value
    asked = [question for question in (sweep() if chosen.sweep else questions()) if chosen.lines in question.group]
    asked = asked[:: chosen.every]
    asked = [question._replace(settings={**question.settings, **changed}) for question in asked]
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        parts = pool.starmap(answers, [(asked[n :: chosen.workers], chosen.models) for n in range(chosen.workers)])
    order = {question: number for number, question in enumerate(map(repr, asked))}
    found = sorted((answer for part in parts for answer in part), key=lambda answer: order[repr(answer.question)])
    print(table(found, totals=not chosen.sweep))
    if not chosen.sweep:
        print("\n" + confusion(found))
        seconds = sorted(answer.seconds for answer in found)
        print(f"\n{seconds[len(seconds) // 2]:.2f} s a picture (median) on one thread, {chosen.workers} at once")


if __name__ == "__main__":
    main()
