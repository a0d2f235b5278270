"""Documents from A1111's texts, whole, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from nodegraph.a1111 import NOISE, from_infotext
from nodegraph.a1111_names import SAMPLERS, SCHEDULES
from nodes.diffusion import names

FILES = {
    "checkpoints": ["sd15/Dreamy_8.safetensors"], "loras": ["styles/Ink.safetensors", "detail.pt"],
    "embeddings": ["easynegative.pt"], "vae": ["vae-ft-mse.ckpt"], "upscale_models": ["4x-UltraSharp.pth"],
}  # fmt: skip
FIRST = """a cat, <lora:ink:0.8> <lora:detail:0.5:0.7>
Negative prompt: easynegative, blurry
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4294967295, Size: 512x768, \
Model hash: 879db523c3, Model: dreamy_8, VAE hash: 735e4c3a44, VAE: vae-ft-mse.ckpt, RNG: CPU, Clip skip: 2, \
Lora hashes: "ink: 12ab, detail: 34cd", TI hashes: "easynegative: 66a7279a88dd", Version: v1.10.1"""


def known(kind: str) -> list[str]:
    return FILES.get(kind, [])


def made(fields: str, prompt: str = "a cat") -> tuple[dict[str, Any], list[str]]:
    """Nodes, and what is told besides how noise is drawn."""
    document, told = from_infotext(f"{prompt}\nSteps: 20, Seed: 1, Size: 512x512, Model: dreamy_8, {fields}", known)
    return document["nodes"], [line for line in told if line != NOISE]


def sampler(fields: str) -> tuple[str, str]:
    inputs = made(fields)[0]["3"]["inputs"]
    return inputs["sampler_name"], inputs["scheduler"]


def test_a_text_becomes_a_whole_document() -> None:
    document, told = from_infotext(FIRST, known)
    assert told == []

    def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}

    clip, prompts = ["13", "CLIP"], {"positive": ["6", "CONDITIONING"], "negative": ["7", "CONDITIONING"]}
    assert document["nodes"] == {
        "4": node("CheckpointLoaderSimple", "Checkpoint", ckpt_name="sd15/Dreamy_8.safetensors"),
        "10": node("VAELoader", "VAE", vae_name="vae-ft-mse.ckpt"),
        "11": node("LoraLoader", "ink", model=["4", "MODEL"], clip=["4", "CLIP"], lora_name="styles/Ink.safetensors",
                   strength_model=0.8, strength_clip=0.8),
        "12": node("LoraLoader", "detail", model=["11", "MODEL"], clip=["11", "CLIP"], lora_name="detail.pt",
                   strength_model=0.7, strength_clip=0.5),
        "13": node("CLIPSetLastLayer", "Clip skip", clip=["12", "CLIP"], stop_at_clip_layer=-2),
        "6": node("CLIPTextEncodeA1111", "Prompt", text="a cat,", clip=clip, steps=20),
        "7": node("CLIPTextEncodeA1111", "Negative prompt", text="embedding:easynegative, blurry", clip=clip, steps=20),
        "5": node("EmptyLatentImage", "Size", width=512, height=768, batch_size=1),
        "3": node("KSampler", "Sampler", model=["12", "MODEL"], **prompts, seed=4294967295, steps=20, cfg=6.5,
                  sampler_name="dpmpp_2m", scheduler="karras", latent_image=["5", "LATENT"], denoise=1.0),
        "8": node("VAEDecode", "Decode", samples=["3", "LATENT"], vae=["10", "VAE"]),
        "9": node("SaveImage", "Save", images=["8", "IMAGE"], filename_prefix="a1111"),
    }  # fmt: skip
    assert document["inputs"]["steps"]["bind"] == ["3.steps", "6.steps", "7.steps"]
    assert document["inputs"]["prompt"] == {"bind": ["6.text"], "doc": "What to draw."}
    assert document["outputs"] == {"image": "8.IMAGE"} and "notes" not in document["ui"]
    assert document["requires"]["models"][:2] == [
        {"role": "checkpoint", "name": "sd15/Dreamy_8.safetensors", "hash": "879db523c3"},
        {"role": "lora", "name": "styles/Ink.safetensors", "hash": "12ab"},
    ]
    places = document["ui"]["positions"]
    assert places.keys() == document["nodes"].keys() and len(set(map(tuple, places.values()))) == len(places)


def test_names_of_files_that_are_not_there_stay_for_planning_to_tell() -> None:
    nodes = from_infotext("<lora:gone> <hypernet:old:0.3>\nSteps: 1, Model: v1-5.ckpt, VAE: None, Size: 8x8")[0][
        "nodes"
    ]
    assert nodes["4"]["inputs"] == {"ckpt_name": "v1-5.ckpt"} and nodes["8"]["inputs"]["vae"] == ["4", "VAE"]
    assert nodes["10"]["inputs"]["lora_name"] == "gone.safetensors"
    assert nodes["11"] == {
        "class_type": "HypernetworkLoader", "_meta": {"title": "old"},
        "inputs": {"model": ["10", "MODEL"], "hypernetwork_name": "old.pt", "strength": 0.3},
    }  # fmt: skip
    assert nodes["3"]["inputs"]["model"] == ["11", "MODEL"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("Sampler: Euler a", ("euler_ancestral", "normal")),
        ("Sampler: DPM++ 2M", ("dpmpp_2m", "normal")),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", ("dpmpp_2m", "karras")),
        ("Sampler: DPM++ 2M Karras", ("dpmpp_2m", "karras")),
        ("Sampler: DPM++ 2M SDE Heun Exponential", ("dpmpp_2m_sde_heun", "exponential")),
        ("Sampler: DPM++ 3M SDE, Schedule type: SGM Uniform", ("dpmpp_3m_sde", "sgm_uniform")),
        ("Sampler: DDIM", ("ddim", "ddim_uniform")),
        ("Sampler: UniPC, Schedule type: Beta", ("uni_pc", "beta")),
    ],
)
def test_samplers_and_schedules_have_names_here(fields: str, expected: tuple[str, str]) -> None:
    assert sampler(fields) == expected
    assert made(fields)[1] == []


def test_every_name_that_is_given_is_one_there_is() -> None:
    assert {name for name, _ in SAMPLERS.values()} <= set(names.SAMPLERS)
    assert {*SCHEDULES.values(), *(schedule for _, schedule in SAMPLERS.values())} <= set(names.SCHEDULERS)


def test_the_second_pass_enlarges_the_latent() -> None:
    nodes, told = made("Denoising strength: 0.55, Hires upscale: 1.5, Hires steps: 12, "
                       "Hires upscaler: Latent (bicubic), "
                       "Hires CFG Scale: 5, Hires sampler: Euler, Hires prompt: \"a large cat\"")  # fmt: skip
    assert told == []
    assert nodes["10"]["inputs"] == {
        "samples": ["3", "LATENT"], "upscale_method": "bicubic", "width": 768, "height": 768, "crop": "disabled"
    }  # fmt: skip
    assert [nodes[id]["inputs"]["text"] for id in ("11", "12")] == ["a large cat", ""]
    assert nodes["13"]["inputs"] == {
        "model": ["4", "MODEL"], "positive": ["11", "CONDITIONING"], "negative": ["12", "CONDITIONING"], "seed": 1,
        "steps": 12, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "latent_image": ["10", "LATENT"],
        "denoise": 0.55,
    }  # fmt: skip
    assert nodes["8"]["inputs"]["samples"] == ["13", "LATENT"]


def test_the_second_pass_enlarges_the_picture_with_a_model_and_to_the_size_told() -> None:
    fields = "Denoising strength: 0.4, Hires resize: 1024x1536, Hires upscaler: 4x-UltraSharp"
    document, _ = from_infotext(f"a cat\nSteps: 20, Seed: 3, Size: 512x768, Model: dreamy_8, {fields}", known)
    nodes = document["nodes"]
    kinds = [nodes[id]["class_type"] for id in ("10", "11", "12", "13", "14", "15")]
    assert kinds == ["VAEDecode", "UpscaleModelLoader", "ImageUpscaleWithModel", "ImageScale", "VAEEncode", "KSampler"]
    assert nodes["11"]["inputs"] == {"model_name": "4x-UltraSharp.pth"}
    assert nodes["12"]["inputs"] == {"upscale_model": ["11", "UPSCALE_MODEL"], "image": ["10", "IMAGE"]}
    assert nodes["13"]["inputs"] == {
        "image": ["12", "IMAGE"], "upscale_method": "lanczos", "width": 1024, "height": 1536, "crop": "disabled"
    }  # fmt: skip
    assert nodes["15"]["inputs"]["positive"] == ["6", "CONDITIONING"] and nodes["15"]["inputs"]["steps"] == 20
    assert document["inputs"]["seed"]["bind"] == ["3.seed", "15.seed"]
    assert (
        made(f"{fields.rpartition(':')[0]}: R-ESRGAN 4x+")[0]["11"]["inputs"]["model_name"] == "RealESRGAN_x4plus.pth"
    )
    assert made(f"{fields.rpartition(':')[0]}: Lanczos")[0]["11"]["class_type"] == "ImageScale"


@pytest.mark.parametrize(
    ("fields", "prompt", "said"),
    [
        ("Sampler: Restart", "", "The sampler 'Restart' has no like here; euler is taken."),
        ("Sampler: Euler, Schedule type: Turbo", "", "The schedule 'Turbo' has no like here; normal is taken."),
        ("Denoising strength: 0.4", "", "made from another picture, with denoising strength 0.4: wire LoadImage"),
        ("Denoising strength: 0, First pass size: 0x0", "", "is not carried over: it was drawn smaller first; wire"),
        ("ControlNet 0: \"Module: canny, Weight: 1\"", "", "'ControlNet 0: Module: canny, Weight: 1' is not"),
        ("ENSD: 31337", "", "'ENSD: 31337' is not carried over: it gives ancestral samplers other noise."),
        ("Face restoration: CodeFormer", "", "'Face restoration: CodeFormer' is not carried over."),
        ("CFG scale: high", "", "'CFG scale: high' is no number; 7 is taken."),
        ("TI hashes: \"badhands: 12\"", "", "The textual inversion 'badhands' is not among the embeddings"),
        ("RNG: NV", "a AND b", "multiply cfg by the sum of their weights"),
        ("Version: 1", "<lora:ink:1:lbw=ALL>", "'ink' has 'lbw=ALL' in its tag, which is not carried over."),
        ("Version: 1", "<style:x>", "The tag <style:x> is not carried over."),
        ("Version: 1", "a\nNegative prompt: <lora:ink:1>", "The negative prompt has tags for 'ink'"),
        ("Civitai resources: [{\"type\":\"lora\",\"weight\":0.8,\"modelName\":\"Wet ink\"}]", "",
         "It used the lora 'Wet ink' of Civitai with weight 0.8: wire its file."),
        ("Version: 1\nTemplate: {a|b}", "", "'Template: {a|b}' after the fields is not carried over."),
        ("Hires upscale: 2, Hires upscaler: Latent (antialiased)", "", "smooths what it enlarges; here it does not."),
    ],
)  # fmt: skip
def test_what_is_not_carried_over_is_a_sentence(fields: str, prompt: str, said: str) -> None:
    (told,) = made(fields, prompt)[1]
    assert said in told


def test_a_size_that_8_does_not_divide_and_one_that_is_missing_are_told() -> None:
    document, told = from_infotext("a\nSteps: 1, Size: 515x512, Model: dreamy_8", known)
    assert document["nodes"]["5"]["inputs"]["width"] == 512 and "Size 515x512 becomes 512x512, which 8 divides." in told
    assert "The size is not told; 512x512 is taken." in from_infotext("a\nSteps: 1, Model: dreamy_8", known)[1]


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**64 - 1])
def test_a_seed_keeps_all_its_digits(seed: int) -> None:
    document, _ = from_infotext(f"a cat\nSteps: 20, Seed: {seed}, Size: 512x512", known)
    assert document["nodes"]["3"]["inputs"]["seed"] == seed


def test_noise_of_the_graphics_card_is_told_in_a_note_on_the_canvas() -> None:
    document, told = from_infotext(FIRST.replace("RNG: CPU, ", ""), known)
    assert told == [NOISE]
    ((id, note),) = document["ui"]["notes"].items()
    assert id not in document["nodes"] and (note["title"], note["text"]) == ("Not as in A1111", NOISE)


def test_forge_tells_the_vae_as_a_module_and_emphasis_may_be_without_its_norm() -> None:
    nodes, told = made("Module 1: vae-ft-mse, Emphasis: No norm, Version: f2.0.1")
    assert told == [] and nodes["8"]["inputs"]["vae"] == ["10", "VAE"]
    assert nodes["10"]["inputs"] == {"vae_name": "vae-ft-mse.ckpt"} and nodes["6"]["inputs"]["normalize"] is False
    assert made("Module 1: t5xxl")[1] == ["'Module 1: t5xxl' is not carried over."]
