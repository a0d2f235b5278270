"""The world the starter family knows: shaded shapes on studio backgrounds, drawn by numpy at any size.

Coordinates: the shorter side of a picture runs from -1 to 1, x to the right, y down. Shapes are signed distances with
analytic normals, so that edges are smooth at every size (Quilez, "2D distance functions", for star and heart).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Rgb = tuple[float, float, float]

COLOURS: dict[str, Rgb] = {
    "red": (0.86, 0.12, 0.12), "orange": (0.95, 0.50, 0.08), "yellow": (0.96, 0.84, 0.12), "green": (0.15, 0.66, 0.22),
    "teal": (0.08, 0.70, 0.72), "blue": (0.13, 0.28, 0.86), "purple": (0.50, 0.16, 0.74), "pink": (0.97, 0.48, 0.70),
    "white": (0.95, 0.95, 0.95), "black": (0.09, 0.09, 0.10),
}  # fmt: skip
BACKGROUNDS: dict[str, Rgb] = {name: (0.8 * r + 0.08, 0.8 * g + 0.08, 0.8 * b + 0.08)
                               for name, (r, g, b) in COLOURS.items()}  # fmt: skip
BACKGROUNDS |= {"gray": (0.55, 0.55, 0.57), "black": (0.10, 0.10, 0.12), "white": (0.90, 0.90, 0.90)}
SHAPES = ("sphere", "cube", "cone", "cylinder", "ring", "star", "heart", "diamond")
SIZES = {"small": 0.33, "medium": 0.46, "large": 0.64}
PLACES = {"left": -0.42, "center": 0.0, "right": 0.42}
STYLES = ("outlined", "striped", "flat")

# Never seen together in training, so that composing can be measured.
HELD_SHAPES = frozenset({
    ("teal", "sphere"), ("purple", "cube"), ("orange", "cone"), ("pink", "cylinder"), ("green", "ring"),
    ("white", "star"), ("blue", "heart"), ("red", "diamond"), ("yellow", "cube"), ("black", "heart"),
})  # fmt: skip
HELD_BACKGROUNDS = frozenset({
    ("red", "blue"), ("orange", "purple"), ("yellow", "teal"), ("green", "pink"), ("teal", "black"),
    ("blue", "orange"), ("purple", "white"), ("pink", "green"), ("white", "red"), ("black", "yellow"),
})  # fmt: skip

_HALF_WIDTHS = {"sphere": 1.0, "ring": 1.0, "cube": 1.02, "cylinder": 0.68, "cone": 0.86, "diamond": 0.82,
                "star": 1.0, "heart": 0.95}  # fmt: skip
_LIGHT = np.array([-0.50, -0.62, 0.60], np.float32)
_LIGHT /= np.linalg.norm(_LIGHT)
_HALFWAY = _LIGHT + np.array([0, 0, 1], np.float32)
_HALFWAY /= np.linalg.norm(_HALFWAY)


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of a scene.

    Attributes:
        x: its middle; `base` the height it stands on; `radius` half its height; `turn` -1..1, what it may be turned by.
    """

    shape: str
    colour: str
    size: str
    place: str
    glossy: bool
    x: float
    base: float
    radius: float
    turn: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture to draw: things from left to right before a background of one colour.

    Attributes:
        horizon: where wall becomes floor; `light` the middle of the wall's light.
    """

    background: str
    things: tuple[Thing, ...]
    horizon: float
    light: float
    style: str | None = None


class Layer(NamedTuple):
    """A face of a shape: signed distance, diffuse and specular light, and how far it looks down (-1 up, 1 down)."""

    distance: Array
    diffuse: Array
    specular: Array
    down: Array | float


def random_scene(
    rng: random.Random,
    *,
    two: float = 0.45,
    held: bool | None = False,
    aspect: float = 1.0,
    style: str | None = None,
) -> Scene:
    """Draws a scene by lot.

    Args:
        two: the share of scenes with two things.
        held: False for none of the held-out pairs, True for one at least, None for any.
        aspect: width by height of the picture; things spread over a wide one.
    """
    wide = max(aspect, 1.0)
    while True:
        background = rng.choice(list(BACKGROUNDS))
        things = _two_things(rng, wide) if rng.random() < two else (_one_thing(rng, wide),)
        if any(thing.colour == background for thing in things):
            continue
        if len({(thing.colour, thing.shape) for thing in things}) < len(things):
            continue
        if held is not None and held is not any(is_held(thing, background) for thing in things):
            continue
        return Scene(background, things, rng.uniform(0.18, 0.34), rng.uniform(-0.3, 0.1) * wide, style)


def is_held(thing: Thing, background: str) -> bool:
    """Whether a pair of this thing was kept from training."""
    return (thing.colour, thing.shape) in HELD_SHAPES or (thing.colour, background) in HELD_BACKGROUNDS


def _one_thing(rng: random.Random, wide: float) -> Thing:
    size = rng.choice(list(SIZES))
    place = "center" if size == "large" and wide == 1 else rng.choice(["left", "center", "center", "right"])
    return Thing(
        rng.choice(SHAPES), rng.choice(list(COLOURS)), size, place, rng.random() < 0.5,
        x=(PLACES[place] + rng.uniform(-0.05, 0.05)) * wide,
        base=rng.uniform(0.50, 0.62) + (0.12 if size == "large" else 0),
        radius=SIZES[size] * rng.uniform(0.93, 1.07),
        turn=rng.uniform(-1, 1),
    )  # fmt: skip


def _two_things(rng: random.Random, wide: float) -> tuple[Thing, ...]:
    return tuple(
        Thing(
            rng.choice(SHAPES), rng.choice(list(COLOURS)), "medium", place, rng.random() < 0.5,
            x=(middle + rng.uniform(-0.05, 0.05)) * wide,
            base=rng.uniform(0.50, 0.62),
            radius=rng.uniform(0.31, 0.39),
            turn=rng.uniform(-1, 1),
        )
        for place, middle in (("left", -0.46), ("right", 0.46))
    )  # fmt: skip


def render(scene: Scene, width: int = 128, height: int | None = None) -> Array:
    """Draws a scene: [height, width, 3] uint8."""
    height = height or width
    image = _background(scene, width, height)
    backdrop = np.array(BACKGROUNDS[scene.background], np.float32)
    for thing in scene.things:
        _draw(image, thing, backdrop, scene.style)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def silhouette(thing: Thing, width: int = 128, height: int | None = None) -> Array:
    """What a thing covers: [height, width] bool."""
    x, y = _grid(width, height or width)
    return np.minimum.reduce([layer.distance for layer in _layers(thing, x, y)]) < 0


@lru_cache(8)
def _grid(width: int, height: int) -> tuple[Array, Array]:
    short = min(width, height)
    across, down = ((np.arange(n, dtype=np.float32) + 0.5) * 2 - n for n in (width, height))
    x, y = np.meshgrid(across / short, down / short)
    return x, y


def _background(scene: Scene, width: int, height: int) -> Array:
    """A wall lit from the left that bends into a floor."""
    x, y = _grid(width, height)
    wall = 0.86 + 0.30 * np.exp(-((x - scene.light) ** 2 + (y + 0.35) ** 2) / 0.9)
    floor = 0.72 + 0.34 * _smooth(scene.horizon - 0.1, 1.1, y)
    bend = _smooth(scene.horizon - 0.07, scene.horizon + 0.07, y)
    light = wall * (1 - bend) + floor * bend
    colour = np.array(BACKGROUNDS[scene.background], np.float32)
    return (colour * light[..., None] + (0.03 * (light - 0.8))[..., None]).astype(np.float32)


def _draw(image: Array, thing: Thing, backdrop: Array, style: str | None) -> None:
    height, width = image.shape[:2]
    x, y = _grid(width, height)
    soft = 1.2 / min(width, height)  # half a pixel and a little
    colour = np.array(COLOURS[thing.colour], np.float32)
    image *= (1 - _shadow(thing, x, y))[..., None]
    covered: Array | None = None
    for layer in _layers(thing, x, y):
        alpha = _smooth(soft, -soft, layer.distance)[..., None]
        shaded = _shaded(thing, layer, colour, backdrop, style)
        if style == "striped":
            stripe = np.sin((x * 0.6 + y) * 15) > 0
            shaded = np.where(stripe[..., None], shaded, shaded * 0.25 + 0.68)
        image[...] = image * (1 - alpha) + np.clip(shaded, 0, 1) * alpha
        covered = layer.distance if covered is None else np.minimum(covered, layer.distance)
    if style == "outlined" and covered is not None:
        line = (_smooth(-0.08 - soft, -0.08 + soft, covered) * _smooth(soft, -soft, covered))[..., None]
        image[...] = image * (1 - line) + 0.04 * line


def _shadow(thing: Thing, x: Array, y: Array) -> Array:
    """A soft one, cast to the right, and a dark one where the thing stands."""
    half = _HALF_WIDTHS[thing.shape] * thing.radius
    across = (x - (thing.x + 0.30 * half)) / (1.15 * half)
    down = (y - (thing.base - 0.02)) / (0.24 * half + 0.02)
    cast = 0.62 * np.exp(-1.1 * (across**2 + down**2))
    contact = 0.5 * np.exp(
        -(((x - thing.x) / (0.6 * half)) ** 2) - ((y - thing.base) / (0.07 * thing.radius + 0.01)) ** 2
    )
    return np.maximum(cast, contact)


def _shaded(thing: Thing, layer: Layer, colour: Array, backdrop: Array, style: str | None) -> Array:
    if style == "flat":
        return colour * np.where(layer.diffuse > 0.45, 1.0, 0.72)[..., None]
    ambient = 0.30 + 0.12 * np.clip(-layer.down, 0, 1)
    lit = colour * (ambient + 0.80 * layer.diffuse)[..., None]
    lit = lit + 0.16 * np.clip(layer.down, 0, 1)[..., None] * backdrop  # light that the floor throws back
    lit = lit + (0.75 if thing.glossy else 0.06) * layer.specular[..., None] + 0.02
    return lit * 1.02 if thing.glossy else lit


def _layers(thing: Thing, x: Array, y: Array) -> Iterator[Layer]:
    """The faces of a thing, from the back to the front."""
    u = (x - thing.x) / thing.radius
    v = (y - thing.base) / thing.radius  # 0 on the ground, -2 at the top
    for layer in _FACES[thing.shape](u, v, thing.turn):
        down = layer.down if isinstance(layer.down, np.ndarray) else np.full_like(x, layer.down)
        yield Layer(layer.distance * thing.radius, layer.diffuse, layer.specular, down)


def _sphere(u: Array, v: Array, _: float) -> Iterator[Layer]:
    v = v + 1
    square = u * u + v * v
    depth = np.sqrt(np.clip(1 - square, 0, 1))
    yield Layer(np.sqrt(square) - 1, _diffuse(u, v, depth), _specular(u, v, depth, 40), v)


def _ring(u: Array, v: Array, _: float) -> Iterator[Layer]:
    v = v + 1
    middle, thickness = 0.66, 0.34
    radius = np.sqrt(u * u + v * v) + 1e-6
    across = (radius - middle) / thickness
    slope = np.clip(across, -1, 1)
    depth = np.sqrt(1 - slope * slope)
    nx, ny = slope * u / radius, slope * v / radius
    yield Layer((np.abs(across) - 1) * thickness, _diffuse(nx, ny, depth), _specular(nx, ny, depth, 40), ny)


def _cube(u: Array, v: Array, turn: float) -> Iterator[Layer]:
    """Seen from above, turned so that two sides show."""
    yaw = 0.45 * turn
    half, pitch = 0.918, 0.42
    corners: dict[tuple[bool, int], tuple[float, float]] = {}
    for top in (False, True):
        for k in range(4):
            angle = yaw + k * math.pi / 2
            px, pz = math.cos(angle) * half * 1.118, math.sin(angle) * half * 1.3
            py = (-1 if top else 1) * half * 0.92
            corners[top, k] = px, -half * 1.22 + (py * math.cos(pitch) + pz * math.sin(pitch)) * 0.92
    front = max(range(4), key=lambda k: corners[False, k][1])
    left, right, back = (front + 1) % 4, (front - 1) % 4, (front + 2) % 4
    if corners[False, left][0] > corners[False, right][0]:
        left, right = right, left
    shade, none = -v / 2, np.zeros_like(u)
    sides = ((left, 0.52, 0.14, 0.2), (right, 0.20, 0.10, 0.4))
    for side, diffuse, gain, down in sides:
        face = [corners[False, front], corners[True, front], corners[True, side], corners[False, side]]
        yield Layer(_polygon(u, v, face), diffuse + gain * shade, none, down)
    lid = [corners[True, k] for k in (front, left, back, right)]
    yield Layer(_polygon(u, v, lid), np.full_like(u, 0.93), 0.10 * _smooth(0.5, -0.5, u), -0.8)


def _cylinder(u: Array, v: Array, _: float) -> Iterator[Layer]:
    width, half, lid = 0.68, 0.80, 0.204
    v = v + half + lid
    across = np.clip(u / width, -1, 1)
    depth = np.sqrt(1 - across * across)
    bulge = lid * depth
    body = np.maximum(np.abs(u) - width, np.maximum(v - half - bulge, -half - v))
    yield Layer(body, _diffuse(across, -0.1, depth), 0.7 * _specular(across, -0.35, depth, 30), 0.3)
    top = np.sqrt((u / width) ** 2 + ((v + half) / lid) ** 2)
    yield Layer((top - 1) * lid, np.full_like(u, 0.88), 0.12 * _smooth(0.6, -0.8, u / width), -0.8)


def _cone(u: Array, v: Array, _: float) -> Iterator[Layer]:
    width, height, bulge = 0.86, 1.9, 0.2236
    t = np.clip((v + height) / (height - bulge), 1e-3, 2)
    across = np.clip(u / (width * np.minimum(t, 1)), -1, 1)
    rim = bulge * np.sqrt(np.clip(1 - (u / width) ** 2, 0, 1))
    slope = width / (height - bulge)
    side = (np.abs(u) - width * t) / math.sqrt(1 + slope * slope)
    distance = np.maximum(side, np.maximum((v + bulge - rim) * 0.9, -height - v))
    depth = np.sqrt(1 - across * across)
    light = _diffuse(across, -0.35, depth * 0.95)
    yield Layer(distance, light, 0.8 * _specular(across, -0.45, depth * 0.9, 24), 0.3)


def _diamond(u: Array, v: Array, turn: float) -> Iterator[Layer]:
    width, middle = 0.82, -1.02
    top, bottom, left, right = (0.0, -2.0), (0.0, 0.0), (-width, middle), (width, middle)
    front = (turn * 0.28 * width, middle + 0.20)
    faces = (
        ([top, left, front], 0.95, 0.12, -0.5),
        ([top, front, right], 0.55, 0.0, -0.2),
        ([bottom, front, left], 0.36, 0.0, 0.4),
        ([bottom, front, right], 0.10, 0.0, 0.6),
    )
    for corners, diffuse, specular, down in faces:
        yield Layer(_polygon(u, v, corners), np.full_like(u, diffuse), np.full_like(u, specular), down)


def _star(u: Array, v: Array, turn: float) -> Iterator[Layer]:
    cos, sin = math.cos(turn * 0.12), math.sin(turn * 0.12)
    x, y = u, -(v + 0.86)
    x, y = np.abs(x * cos - y * sin), x * sin + y * cos
    for kx in (0.809016994, -0.809016994):  # folded five times
        ky = -0.587785252
        over = 2 * np.maximum(kx * x + ky * y, 0)
        x, y = x - over * kx, y - over * ky
    x, y = np.abs(x), y - 1.04
    ex, ey = 0.5 * 0.587785252, 0.5 * 0.809016994 - 1
    t = np.clip((x * ex + y * ey) / (ex * ex + ey * ey), 0, 1.04)
    distance = np.hypot(x - ex * t, y - ey * t) * np.sign(y * ex - x * ey) - 0.03
    yield _inflated(distance, 0.30, u)


def _heart(u: Array, v: Array, _: float) -> Iterator[Layer]:
    x, y = np.abs(u) * 0.62, -v * 0.56
    lobe = np.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    m = 0.5 * np.maximum(x + y, 0)
    point = np.sqrt(np.minimum(x**2 + (y - 1) ** 2, (x - m) ** 2 + (y - m) ** 2)) * np.sign(x - y)
    yield _inflated(np.where(x + y > 1, lobe, point) / 0.60, 0.42, u)


def _inflated(distance: Array, width: float, u: Array) -> Layer:
    """A flat shape blown up to a cushion: its height is a quarter circle over the distance from its edge."""
    depth = np.clip(-distance / width, 0, 1)
    height = width * np.sqrt(1 - (1 - depth) ** 2) * 0.8
    gy, gx = np.gradient(height, float(u[0, 1] - u[0, 0]))
    norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
    nx, ny = -gx * norm, -gy * norm
    return Layer(distance, _diffuse(nx, ny, norm), 0.8 * _specular(nx, ny, norm, 30), ny)


_FACES = {"sphere": _sphere, "ring": _ring, "cube": _cube, "cylinder": _cylinder, "cone": _cone, "diamond": _diamond,
          "star": _star, "heart": _heart}  # fmt: skip


def _polygon(x: Array, y: Array, corners: list[tuple[float, float]]) -> Array:
    """The largest distance to the sides of a convex polygon, given in any direction."""
    pairs = list(zip(corners, corners[1:] + corners[:1], strict=True))
    if sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairs) < 0:
        pairs = [(b, a) for a, b in pairs]
    sides = [((x - ax) * (by - ay) - (y - ay) * (bx - ax)) / math.hypot(bx - ax, by - ay)
             for (ax, ay), (bx, by) in pairs]  # fmt: skip
    return np.maximum.reduce(sides)


def _smooth(start: float, stop: float, x: Array) -> Array:
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def _diffuse(nx: Array, ny: Array | float, nz: Array) -> Array:
    return np.clip(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2], 0, 1)


def _specular(nx: Array, ny: Array | float, nz: Array, shininess: int) -> Array:
    return np.clip(nx * _HALFWAY[0] + ny * _HALFWAY[1] + nz * _HALFWAY[2], 0, 1) ** shininess
