"""The document that draws again what A1111's text tells of, and sentences on what of it cannot be carried over.

Source: AUTOMATIC1111/stable-diffusion-webui 1.10 (`processing.py`, `infotext_utils.py`), for what its texts mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any, cast

from nodegraph.a1111_names import (
    HINTS,
    IMAGE_UPSCALERS,
    LATENT_UPSCALERS,
    QUIET,
    SAMPLERS,
    SCHEDULES,
    UPSCALE_MODELS,
)
from nodegraph.infotext import Network, fields_of, number, read, with_embeddings, without_networks

Names = Callable[[str], Sequence[str]]
"""Gives the names of the files of a kind, such as `loras`."""

INPUTS: Mapping[str, tuple[str, str]] = {
    "prompt": ("6.text", "What to draw."), "negative": ("7.text", "What to leave out."),
    "seed": ("3.seed", "Another seed is another picture."), "steps": ("3.steps", ""), "cfg": ("3.cfg", ""),
    "sampler": ("3.sampler_name", ""), "scheduler": ("3.scheduler", ""), "width": ("5.width", ""),
    "height": ("5.height", ""), "checkpoint": ("4.ckpt_name", ""),
}  # fmt: skip
NOISE = "A1111 draws noise on the graphics card, here the processor draws it: the same seed gives another picture."
LARGEST = 10**6  # pixels of a side, far beyond what any node takes
SHOWN = 120  # characters of a value in a sentence
COLUMN, ROW = 360, 260


def from_infotext(text: str, names: Names = lambda kind: ()) -> tuple[dict[str, Any], list[str]]:
    """Reads a text of A1111's -> a document as JSON values, and a sentence on each thing that is not as it was there.

    The sentences are also in the document, as a note on its canvas.

    Args:
        text: prompts and fields, as A1111, Forge and SD.Next write them.
        names: gives the files at hand, of which that of a name is taken; else the name stays as it is, for planning to
            tell what is nearest.

    Raises:
        WorkflowError: it is no such text.
    """
    maker = _Maker(text, names)
    maker.make()
    return maker.document(), maker.told


class _Maker:
    """Makes one document; `told` gathers what is to be said."""

    def __init__(self, text: str, names: Names) -> None:
        self.text, self.names, self.ids = read(text), cache(names), count(10)
        self.fields = {name.casefold(): (name, value) for name, value in self.text.fields.items()}
        self.told: list[str] = []
        self.nodes: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.places: dict[str, list[int]] = {}
        self.models: list[dict[str, str]] = []
        self.column = 0

    # Fields

    def take(self, name: str, default: str = "") -> str:
        """The value of a field, which is then accounted for."""
        return self.fields.pop(name.casefold(), ("", default))[1]

    def number(self, name: str, default: float) -> float:
        """The number in a field; what is none is told."""
        text = self.take(name)
        found = number(text)
        if text and found is None:
            self.told.append(f"'{name}: {text}' is no number; {default:g} is taken.")
        return default if found is None else found

    def whole(self, name: str, default: int) -> int:
        """The whole number in a field, with digits that a float has no room for."""
        text = self.fields.get(name.casefold(), ("", ""))[1]
        found = int(self.number(name, default))
        return int(text) if re.fullmatch(r"\d{1,20}", text) else found

    def size(self, name: str) -> tuple[int, int] | None:
        """`512x768` as numbers that 8 divides."""
        text = self.take(name)
        match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
        if match is None:
            return None
        found = int(match[1]) // 8 * 8, int(match[2]) // 8 * 8
        if f"{found[0]}x{found[1]}" != text:
            self.told.append(f"{name} {text} becomes {found[0]}x{found[1]}, which 8 divides.")
        return found

    # Nodes

    def add(self, id: str, class_type: str, title: str, row: int = 0, **inputs: Any) -> str:
        """Puts a node into the column under way -> its id."""
        id = id or str(next(self.ids))
        self.nodes[id] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}
        self.places[id] = [40 + self.column * COLUMN, 60 + row * ROW]
        return id

    def file(self, kind: str, name: str, ending: str = ".safetensors") -> str:
        """The file of a name without its ending; the name itself, with one, where there is none."""
        wanted = name.replace("\\", "/").casefold()
        known = {other: other.casefold() for other in self.names(kind)}
        for is_short in (False, True):
            for other, whole in known.items():
                form = whole.rpartition("/")[2] if is_short else whole
                if wanted in (form, form.rpartition(".")[0]):
                    return other
        return (
            name if name.lower().endswith((".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft")) else name + ending
        )

    def make(self) -> None:
        """Makes every node, then says what is left."""
        steps = self.whole("Steps", 20)
        positive, networks = without_networks(self.text.prompt)
        model, clip, vae = self._models(networks)
        self.column += 1
        texts = [self._prompt(positive), self._prompt(self._negative(self.text.negative))]
        prompts = self._prompts(("6", "7"), texts, clip, steps)
        size = self.size("Size")
        if size is None:
            size = 512, 512
            self.told.append("The size is not told; 512x512 is taken.")
        self.add("5", "EmptyLatentImage", "Size", 2, width=size[0], height=size[1], batch_size=1)
        self.column += 1
        values: dict[str, Any] = {
            "seed": self.whole("Seed", 0) % 2**64,
            "steps": steps,
            "cfg": self.number("CFG scale", 7.0),
        }
        values |= dict(zip(("sampler_name", "scheduler"), self._sampler("", ("euler", "normal")), strict=True))
        ends: dict[str, Any] = {"model": model, "positive": prompts[0], "negative": prompts[1]}
        sampled = self.add("3", "KSampler", "Sampler", **ends, **values, latent_image=["5", "LATENT"], denoise=1.0)
        sampled = self._hires(sampled, size, values, texts, {**ends, "vae": vae, "clip": clip})
        self.column += 1
        self.add("8", "VAEDecode", "Decode", samples=[sampled, "LATENT"], vae=vae)
        self.column += 1
        self.add("9", "SaveImage", "Save", images=["8", "IMAGE"], filename_prefix="a1111")
        self._declare()
        self._tell_rest(positive)

    def _models(self, networks: Sequence[Network]) -> tuple[list[str], list[str], list[str]]:
        """The checkpoint and all that is hung on it -> links to the model, its text encoders and its VAE."""
        name = self.take("model")
        if not name:
            self.told.append("The checkpoint is not named; choose one.")
        checkpoint = self.file("checkpoints", name) if name else next(iter(self.names("checkpoints")), "")
        digest = self.fields.get("model hash", ("", ""))[1]
        self.models.append({"role": "checkpoint", "name": checkpoint} | ({"hash": digest} if digest else {}))
        self.add("4", "CheckpointLoaderSimple", "Checkpoint", ckpt_name=checkpoint)
        model, clip, vae = ["4", "MODEL"], ["4", "CLIP"], ["4", "VAE"]
        named = self.take("vae") or self._module()
        if named and named.casefold() not in ("none", "automatic", "auto", "default"):
            vae = [self.add("", "VAELoader", "VAE", 1, vae_name=self.file("vae", named)), "VAE"]
        digests = fields_of(self.take("lora hashes"))
        for item in [*networks, *self._hypernet()]:
            if not item.kind:
                self.told.append(f"The tag <{item.name}> is not carried over.")
                continue
            self.column += 1
            if item.extra:
                self.told.append(f"'{item.name}' has {':'.join(item.extra)!r} in its tag, which is not carried over.")
            file = self.file(item.kind, item.name, ".pt" if item.kind == "hypernetworks" else ".safetensors")
            if item.kind == "hypernetworks":
                node = self.add("", "HypernetworkLoader", item.name, model=model, hypernetwork_name=file,
                                strength=item.model)  # fmt: skip
            else:
                node = self.add("", "LoraLoader", item.name, model=model, clip=clip, lora_name=file,
                                strength_model=item.model, strength_clip=item.clip)  # fmt: skip
                clip = [node, "CLIP"]
                digest = digests.get(item.name)
                self.models += [{"role": "lora", "name": file, "hash": digest}] if digest else []
            model = [node, "MODEL"]
        skip = self.whole("Clip skip", 1)
        if skip > 1:
            self.column += 1
            clip = [self.add("", "CLIPSetLastLayer", "Clip skip", 1, clip=clip, stop_at_clip_layer=-skip), "CLIP"]
        return model, clip, vae

    def _module(self) -> str:
        """The VAE among Forge's modules: one whose name is that of a VAE here."""
        known = self.names("vae")
        for key in [key for key in self.fields if key.startswith("module ")]:
            if self.file("vae", self.fields[key][1]) in known:
                return self.take(key)
        return ""

    def _hypernet(self) -> list[Network]:
        """A hypernetwork as A1111 before 1.0 told it, outside the prompt."""
        name, strength = self.take("hypernet").partition("(")[0], self.number("Hypernet strength", 1.0)
        return [Network("hypernetworks", name, strength, strength)] if name else []

    # Prompts

    def _negative(self, text: str) -> str:
        found, networks = without_networks(text)
        names = ", ".join(f"'{item.name}'" for item in networks)
        if networks:
            self.told.append(f"The negative prompt has tags for {names}; A1111 loads nothing there, so they are gone.")
        return found

    def _prompt(self, text: str) -> str:
        """A prompt as our node reads it."""
        stems = [name.rpartition("/")[2].rpartition(".")[0] for name in self.names("embeddings")]
        return with_embeddings(text, filter(None, stems))

    def _prompts(self, ids: Sequence[str], texts: Sequence[str], clip: Any, steps: int) -> list[list[str]]:
        is_plain = self.fields.get("emphasis", ("", ""))[1] == "No norm"
        options: dict[str, Any] = {"normalize": False} if is_plain else {}
        titles = ("Prompt", "Negative prompt")
        return [
            [
                self.add(id, "CLIPTextEncodeA1111", title, row, text=text, clip=clip, steps=steps, **options),
                "CONDITIONING",
            ]
            for row, (id, title, text) in enumerate(zip(ids, titles, texts, strict=True))
        ]

    # Sampling

    def _sampler(self, hires: str, before: tuple[str, str]) -> tuple[str, str]:
        """Names of the sampler and the schedule; what has no like here is told."""
        name, schedule = self.take(f"{hires}sampler"), self.take(f"{hires}schedule type")
        if name.casefold() in ("", "use same sampler", "default"):
            found, automatic = before
        else:
            wanted = name.casefold()
            ending = next((each for each in SCHEDULES if wanted.endswith(f" {each}")), "")
            if wanted not in SAMPLERS and ending:  # as versions before 1.9 have it
                wanted, schedule = wanted.removesuffix(f" {ending}"), schedule or ending
            found, automatic = SAMPLERS.get(wanted, ("", ""))
            if not found:
                found, automatic = before
                self.told.append(f"The sampler {name!r} has no like here; {found} is taken.")
            elif hires:
                automatic = before[1]
            elif not schedule and automatic != "ddim_uniform":
                automatic = "normal"  # what versions before 1.9 did, which tell no schedule
        if schedule.casefold() in ("", "automatic", "use same scheduler", "default"):
            return found, automatic
        if schedule.casefold() not in SCHEDULES:
            self.told.append(f"The schedule {schedule!r} has no like here; {automatic} is taken.")
        return found, SCHEDULES.get(schedule.casefold(), automatic)

    def _hires(self, sampled: str, size: tuple[int, int], values: dict[str, Any], texts: Sequence[str],
               ends: dict[str, Any]) -> str:  # fmt: skip
        """The second pass of "Hires. fix" -> the sampler that is the last."""
        upscaler, target = self.take("hires upscaler"), self.size("Hires resize")
        scale, steps = self.number("Hires upscale", 0.0), self.whole("Hires steps", 0) or values["steps"]
        if not (target or scale or upscaler):
            return sampled
        target = target or tuple(int(min(side * (scale or 2.0), LARGEST)) // 8 * 8 for side in size)
        denoise = self.number("Denoising strength", 0.7)
        mine: dict[str, Any] = {**values, "steps": steps, "cfg": self.number("Hires CFG Scale", values["cfg"])}
        before = values["sampler_name"], values["scheduler"]
        mine |= dict(zip(("sampler_name", "scheduler"), self._sampler("hires ", before), strict=True))
        self.column += 1
        others = self._hires_texts(texts)
        latent = self._enlarged(sampled, upscaler or "Latent", target, ends.pop("vae"))
        clip = ends.pop("clip")
        if others != list(texts) or (steps != values["steps"] and any("[" in text for text in others)):
            found = self._prompts(("", ""), others, clip, steps)
            ends |= dict(zip(("positive", "negative"), found, strict=True))
        self.column += 1
        return self.add("", "KSampler", "Hires. fix", **ends, **mine, latent_image=[latent, "LATENT"], denoise=denoise)

    def _hires_texts(self, texts: Sequence[str]) -> list[str]:
        prompt, networks = without_networks(self.take("hires prompt"))
        if networks:
            names = ", ".join(f"'{item.name}'" for item in networks)
            self.told.append(f"The prompt of the second pass loads {names}, which is not carried over.")
        negative = self._negative(self.take("hires negative prompt"))
        return [self._prompt(own) if own else text for own, text in zip((prompt, negative), texts, strict=True)]

    def _enlarged(self, sampled: str, upscaler: str, size: Sequence[int], vae: Any) -> str:
        """The latent of the first pass, enlarged as the upscaler does -> its node."""
        width, height = size
        method = LATENT_UPSCALERS.get(upscaler.casefold())
        if method is not None:
            if "antialiased" in upscaler:
                self.told.append(f"{upscaler!r} smooths what it enlarges; here it does not.")
            return self.add("", "LatentUpscale", "Enlarge", 2, samples=[sampled, "LATENT"], upscale_method=method,
                            width=width, height=height, crop="disabled")  # fmt: skip
        image = [self.add("", "VAEDecode", "Decode the first pass", 2, samples=[sampled, "LATENT"], vae=vae), "IMAGE"]
        self.column += 1
        method = IMAGE_UPSCALERS.get(upscaler.casefold())
        if method is None:
            name = self.file("upscale_models", UPSCALE_MODELS.get(upscaler.casefold(), upscaler), ".pth")
            loader = self.add("", "UpscaleModelLoader", "Upscaler", 1, model_name=name)
            image = [self.add("", "ImageUpscaleWithModel", "Enlarge", 2, upscale_model=[loader, "UPSCALE_MODEL"],
                              image=image), "IMAGE"]  # fmt: skip
            self.column += 1
        image = [self.add("", "ImageScale", "To size", 2, image=image, upscale_method=method or "lanczos", width=width,
                          height=height, crop="disabled"), "IMAGE"]  # fmt: skip
        self.column += 1
        return self.add("", "VAEEncode", "Encode", 2, pixels=image, vae=vae)

    # What it comes to

    def document(self) -> dict[str, Any]:
        """All of it as a document."""
        ui: dict[str, Any] = {"positions": self.places}
        if self.told:
            note = {"title": "Not as in A1111", "text": "\n".join(self.told), "position": [40, 60 + 4 * ROW],
                    "size": [2 * COLUMN - 40, 60 + 34 * len(self.told)]}  # fmt: skip
            ui["notes"] = {str(next(self.ids)): note}
        return {
            "nodegraph": 1, "doc": "Read from what A1111's web UI, or one of its kin, wrote beside a picture.",
            "nodes": self.nodes, "inputs": self.inputs, "outputs": {"image": "8.IMAGE"},
            "requires": {"models": self.models}, "ui": ui,
        }  # fmt: skip

    def _declare(self) -> None:
        """Declares inputs; one sets every node that has the same value in the same place."""
        for name, (place, doc) in INPUTS.items():
            first, key = place.split(".")
            title, value = self.nodes[first]["_meta"]["title"], self.nodes[first]["inputs"][key]
            bind = [
                f"{id}.{key}"
                for id, node in self.nodes.items()
                if node["inputs"].get(key) == value and (key != "text" or node["_meta"]["title"] == title)
            ]
            self.inputs[name] = {"bind": sorted(bind, key=place.__ne__)} | ({"doc": doc} if doc else {})

    def _tell_rest(self, prompt: str) -> None:
        """Says what else is not as it was."""
        if self.take("rng") != "CPU":
            self.told.append(NOISE)
        strength = self.take("denoising strength")
        if strength and "first pass size" not in self.fields:  # which "Highres. fix" had before 1.0
            self.told.append(f"It was made from another picture, with denoising strength {strength}: wire LoadImage "
                             "and VAEEncode in place of the empty latent, and set denoise.")  # fmt: skip
        if " AND " in prompt:
            self.told.append("AND adds up its parts there, here it takes their mean: multiply cfg by the sum of their "
                             "weights.")  # fmt: skip
        known = {name.rpartition("/")[2].rpartition(".")[0].casefold() for name in self.names("embeddings")}
        for name in fields_of(self.take("ti hashes")):
            if name.casefold() not in known:
                self.told.append(
                    f"The textual inversion {name!r} is not among the embeddings; its name is read as words."
                )
        if self.take("emphasis", "Original") not in ("Original", "No norm"):
            self.told.append("Emphasis was off there, here brackets weigh words.")
        self.told += _resources(self.take("civitai resources", "[]"))
        for key, (name, value) in self.fields.items():
            if key not in QUIET:
                hint = next((f": {hint}" for begin, hint in HINTS.items() if key.startswith(begin)), "")
                self.told.append(f"'{name}: {_short(value)}' is not carried over{hint}.")
        if self.text.rest:
            self.told.append(f"{_short(self.text.rest)!r} after the fields is not carried over.")


def _resources(text: str) -> list[str]:
    """What Civitai's own generator tells in place of names of files, a sentence each."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return [f"'Civitai resources: {_short(text)}' cannot be read."]
    items = cast("list[Any]", found) if isinstance(found, list) else []
    rows = [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
    return [
        f"It used the {row.get('type', 'model')} {_short(str(row.get('modelName', '?')))!r} of Civitai"
        + (f" with weight {row['weight']}" if "weight" in row else "") + ": wire its file."
        for row in rows
    ]  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
