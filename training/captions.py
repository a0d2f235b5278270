"""What people say of a scene: a grammar with synonyms, dropped parts, other word orders and other languages."""

from __future__ import annotations

import random
from typing import NamedTuple

from training.scenes import COLOURS, SHAPES, Scene, Thing

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet"), "orange": ("orange",), "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "green", "emerald"), "teal": ("teal", "cyan", "turquoise"),
    "blue": ("blue", "blue", "blue", "navy"), "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "pink", "rose"), "white": ("white", "white", "white", "ivory"),
    "black": ("black",), "gray": ("gray", "grey"),
}  # fmt: skip
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "sphere": ("sphere", "sphere", "ball", "ball", "globe", "circle"), "cube": ("cube", "cube", "box", "block"),
    "cone": ("cone", "cone", "pyramid"), "cylinder": ("cylinder", "cylinder", "can", "tube"),
    "ring": ("ring", "ring", "donut", "torus", "doughnut"), "star": ("star",),
    "heart": ("heart", "heart", "love heart"),
    "diamond": ("diamond", "diamond", "gem", "crystal"),
}  # fmt: skip
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "tiny", "little"), "large": ("large", "large", "big", "huge", "giant"),
    "medium": ("medium", "medium sized"),
}  # fmt: skip
MATERIAL_WORDS = {True: ("glossy", "glossy", "shiny", "polished"), False: ("matte", "matte", "dull")}
PRAISE = (
    "masterpiece", "best quality", "highly detailed", "beautiful", "photorealistic", "sharp focus", "studio lighting",
    "4k", "8k", "hd", "3d render", "trending on artstation", "realistic", "intricate", "cinematic", "soft light",
    "high resolution", "professional photo", "nice", "very simple", "product photo", "octane render",
)  # fmt: skip
_OPENINGS = ("", "", "", "", "a photo of ", "a render of ", "an image of ", "a picture of ", "a 3d render of ")


class Tongue(NamedTuple):
    """Another language's words for colours and shapes, and how they stand together."""

    colours: dict[str, str]
    shapes: dict[str, str]
    pattern: str


def _words(keys: tuple[str, ...], text: str) -> dict[str, str]:
    return dict(zip(keys, text.split(), strict=True))


_COLOURS = (*COLOURS, "gray")
TONGUES: dict[str, Tongue] = {
    "chinese": Tongue(
        _words(_COLOURS, "红色 橙色 黄色 绿色 青色 蓝色 紫色 粉色 白色 黑色 灰色"),
        _words(SHAPES, "球 立方体 圆锥 圆柱 圆环 星星 心 钻石"),
        "{colour}的{shape}，{background}背景",
    ),
    "japanese": Tongue(
        _words(_COLOURS, "赤い オレンジ色の 黄色い 緑の 青緑の 青い 紫の ピンクの 白い 黒い 灰色の"),
        _words(SHAPES, "球 立方体 円錐 円柱 リング 星 ハート ダイヤ"),
        "{background}背景に{colour}{shape}",
    ),
    "german": Tongue(
        _words(_COLOURS, "rot orange gelb grün türkis blau lila rosa weiß schwarz grau"),
        _words(SHAPES, "Kugel Würfel Kegel Zylinder Ring Stern Herz Diamant"),
        "{shape} {colour}, Hintergrund {background}",
    ),
    "french": Tongue(
        _words(_COLOURS, "rouge orange jaune vert turquoise bleu violet rose blanc noir gris"),
        _words(SHAPES, "sphère cube cône cylindre anneau étoile coeur diamant"),
        "{shape} {colour} sur fond {background}",
    ),
    "spanish": Tongue(
        _words(_COLOURS, "rojo naranja amarillo verde turquesa azul morado rosa blanco negro gris"),
        _words(SHAPES, "esfera cubo cono cilindro anillo estrella corazón diamante"),
        "{shape} {colour} sobre fondo {background}",
    ),
}


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the many things to say of a scene; parts are left out at times. Styles are never named."""
    if len(scene.things) == 1 and rng.random() < 0.08 and scene.things[0].colour in _COLOURS:
        text = foreign(scene, rng.choice(list(TONGUES)))
    else:
        text = _of_two(scene, rng) if len(scene.things) == 2 else _of_one(scene, rng)
    if rng.random() < 0.15:
        text += ", " + ", ".join(rng.sample(PRAISE, rng.randint(1, 4)))
    return text


def plain(scene: Scene) -> str:
    """The full and plain description of a scene, as prompts for measuring are written."""
    things = [f"{article(_plain_noun(thing, len(scene.things) == 1))}" for thing in scene.things]
    place = scene.things[0].place
    where = f" on the {place}" if len(things) == 1 and place != "center" else ""
    return " to the left of ".join(things) + where + f" on {article(scene.background)} background"


def foreign(scene: Scene, language: str) -> str:
    """A scene of one thing in another language: its colour, shape and background."""
    tongue = TONGUES[language]
    thing = scene.things[0]
    return tongue.pattern.format(
        colour=tongue.colours[thing.colour],
        shape=tongue.shapes[thing.shape],
        background=tongue.colours[scene.background],
    )


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _plain_noun(thing: Thing, with_size: bool) -> str:
    size = f"{thing.size} " if with_size and thing.size != "medium" else ""
    return f"{size}{thing.colour} {thing.shape}"


def _of_one(scene: Scene, rng: random.Random) -> str:
    thing = scene.things[0]
    noun = _noun(thing, rng, size=0.85, material=0.35)
    colour, background = _background(scene, rng)
    place = ""
    if thing.place != "center":
        if rng.random() < 0.88:
            place = rng.choice([f"on the {thing.place}", f"on the {thing.place} side", f"at the {thing.place}"])
    elif rng.random() < 0.25:
        place = rng.choice(["in the center", "in the middle"])
    form = rng.random()
    if form < 0.2:  # in the manner of tags
        return ", ".join(part for part in (noun, place, f"{colour} background" if background else "") if part)
    head = rng.choice(_OPENINGS) + (article(noun) if form < 0.9 else noun)
    return _joined(head, *((place, background) if rng.random() < 0.7 else (background, place)))


def _of_two(scene: Scene, rng: random.Random) -> str:
    left, right = (_noun(thing, rng, size=0.0, material=0.15) for thing in scene.things)
    left, right = article(left), article(right)
    _, background = _background(scene, rng)
    form = rng.random()
    if form < 0.25:
        text = f"{left} and {right}"
    elif form < 0.6:
        text = f"{left} {rng.choice(['to the left of', 'to the left of', 'left of', 'next to', 'beside'])} {right}"
    elif form < 0.8:
        text = f"{right} {rng.choice(['to the right of', 'right of'])} {left}"
    elif form < 0.9:
        text = f"{left} on the left and {right} on the right"
    else:
        text = f"{left} on the left, {right} on the right"
    return _joined(rng.choice(_OPENINGS) + text, background)


def _noun(thing: Thing, rng: random.Random, *, size: float, material: float) -> str:
    words: list[str] = []
    if rng.random() < (size if thing.size != "medium" else size / 8):
        words.append(rng.choice(SIZE_WORDS[thing.size]))
    if rng.random() < material:
        words.append(rng.choice(MATERIAL_WORDS[thing.glossy]))
    if rng.random() < 0.95:
        words.append(rng.choice(COLOUR_WORDS[thing.colour]))
    words.append(rng.choice(SHAPE_WORDS[thing.shape]))
    return " ".join(words)


def _background(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """A word for the colour of the background, and a phrase with it, which may be empty."""
    colour = rng.choice(COLOUR_WORDS[scene.background])
    phrases = [f"on {article(colour)} background"] * 4 + [
        f"against {article(colour)} background", f"in front of {article(colour)} wall",
        f"with {article(colour)} background", f", {colour} background",
    ]  # fmt: skip
    return colour, "" if rng.random() < 0.1 else rng.choice(phrases)


def _joined(head: str, *parts: str) -> str:
    for part in parts:
        head += part if part.startswith(",") else f" {part}" if part else ""
    return head
