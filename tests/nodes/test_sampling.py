"""The nodes that sample: their interfaces are ComfyUI's, and runs in parts are the whole run."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from nodegraph.events import NodePreview, NodeProgress
from nodegraph.files import Folders
from nodegraph.session import Session, Settings
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec
from nodegraph.workflow import Workflow
from nodes.diffusion import names
from nodes.diffusion.architecture import UNetConfig
from nodes.diffusion.checkpoints import Part
from nodes.diffusion.guidance_patches import APG
from nodes.diffusion.previews import Previews
from nodes.guiders import basic_guider, make_cfg_guider
from nodes.noise import add_noise, disable_noise, random_noise
from nodes.sampling import ksampler, ksampler_advanced, sampler_custom, sampler_custom_advanced
from nodes.sigmas import basic, flip, split
from nodes.types import Cond, GuiderValue, LatentValue, ModelValue, SamplerValue

SPEC: NodeSpec = getattr(ksampler, NODE_ATTRIBUTE)


def inputs_of(function: Any) -> list[tuple[str, str]]:
    spec: NodeSpec = getattr(function, NODE_ATTRIBUTE)
    return [(item.name, item.port) for item in spec.inputs]


def defaults_of(function: Any) -> dict[str, Any]:
    spec: NodeSpec = getattr(function, NODE_ATTRIBUTE)
    return {item.name: item.default for item in spec.inputs if not item.is_required}


def test_ksampler_has_comfyuis_inputs_in_order_and_one_more() -> None:
    assert SPEC.name == "KSampler" and SPEC.category == "sampling"
    assert inputs_of(ksampler) == [
        ("model", "MODEL"), ("seed", "INT"), ("steps", "INT"), ("cfg", "FLOAT"), ("sampler_name", "COMBO"),
        ("scheduler", "COMBO"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("latent_image", "LATENT"),
        ("denoise", "FLOAT"), ("batch_seeds", "COMBO"),
    ]  # fmt: skip
    assert [output.port for output in SPEC.outputs] == ["LATENT"]


def test_ksampler_has_comfyuis_defaults() -> None:
    assert defaults_of(ksampler) == {
        "seed": 0, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
        "batch_seeds": "one for all",
    }  # fmt: skip


def test_ksampler_advanced_has_comfyuis_inputs_in_order_and_one_more() -> None:
    assert inputs_of(ksampler_advanced) == [
        ("model", "MODEL"), ("add_noise", "COMBO"), ("noise_seed", "INT"), ("steps", "INT"), ("cfg", "FLOAT"),
        ("sampler_name", "COMBO"), ("scheduler", "COMBO"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING"),
        ("latent_image", "LATENT"), ("start_at_step", "INT"), ("end_at_step", "INT"),
        ("return_with_leftover_noise", "COMBO"), ("batch_seeds", "COMBO"),
    ]  # fmt: skip
    assert defaults_of(ksampler_advanced) == {
        "add_noise": "enable", "noise_seed": 0, "steps": 20, "cfg": 8.0, "sampler_name": "euler",
        "scheduler": "normal", "start_at_step": 0, "end_at_step": 10000, "return_with_leftover_noise": "disable",
        "batch_seeds": "one for all",
    }  # fmt: skip


def test_the_custom_samplers_have_comfyuis_inputs_and_outputs() -> None:
    assert inputs_of(sampler_custom) == [
        ("model", "MODEL"), ("add_noise", "BOOLEAN"), ("noise_seed", "INT"), ("cfg", "FLOAT"),
        ("positive", "CONDITIONING"), ("negative", "CONDITIONING"), ("sampler", "SAMPLER"), ("sigmas", "SIGMAS"),
        ("latent_image", "LATENT"),
    ]  # fmt: skip
    assert defaults_of(sampler_custom) == {"add_noise": True, "noise_seed": 0, "cfg": 8.0}
    assert inputs_of(sampler_custom_advanced) == [
        ("noise", "NOISE"), ("guider", "GUIDER"), ("sampler", "SAMPLER"), ("sigmas", "SIGMAS"),
        ("latent_image", "LATENT"),
    ]  # fmt: skip
    for function in (sampler_custom, sampler_custom_advanced):
        spec: NodeSpec = getattr(function, NODE_ATTRIBUTE)
        assert [output.name for output in spec.outputs] == ["output", "denoised_output"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("seed", [0, 2**64 - 1], [-1, 2**64]),
        ("steps", [1, 10000], [0, 10001]),
        ("cfg", [0.0, 100.0], [-0.1, 100.5]),
        ("denoise", [0.0, 1.0], [-0.01, 1.01]),
        ("sampler_name", list(names.SAMPLERS), ["eulr"]),
        ("scheduler", list(names.SCHEDULERS), ["karas"]),
        ("batch_seeds", ["one for all", "one each"], ["each"]),
    ],
)
def test_ksampler_takes_comfyuis_ranges(name: str, good: list[object], bad: list[object]) -> None:
    literal = TypeAdapter(SPEC.by_name[name].literal)
    assert [literal.validate_python(value) for value in good] == good
    for value in bad:
        with pytest.raises(ValidationError):
            literal.validate_python(value)


# --- with a UNet that needs no weights --------------------------------------------------------------------------

CONFIG = UNetConfig(
    in_channels=4, out_channels=4, model_channels=32, channel_mult=(1,), num_res_blocks=(1,), transformer_depth=(1,),
    middle_depth=1, context_dim=8, num_heads=8, head_channels=None, use_linear=False, latent_scale=0.5,
)  # fmt: skip
MODEL = ModelValue(Part("", "", "unet", "sd1", CONFIG))
POSITIVE, NEGATIVE = (Cond(torch.full((1, 77, 8), 0.2)),), (Cond(torch.full((1, 77, 8), 0.1)),)
EMPTY = LatentValue(torch.zeros(2, 4, 6, 5))
DRAWN = LatentValue(torch.randn((2, 4, 6, 5), generator=torch.Generator().manual_seed(0)), torch.ones(1, 48, 40))
EULER = SamplerValue("euler")


class Toy(nn.Module):
    """Predicts noise that depends on all it is given."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, *_: object) -> Tensor:
        told = context.mean(dim=(1, 2)) + timesteps / 999
        return 0.7 * torch.tanh(x + told.reshape(-1, 1, 1, 1))


class Host:
    """A context whose model is a toy."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.files = Folders.of(Path("nowhere"))
        self.steps: list[tuple[int, int]] = []

    def use(self, part: Any) -> AbstractContextManager[nn.Module]:
        return nullcontext(Toy())

    def check(self) -> None:
        """Never cancelled."""

    def step(self, i: int, n: int, preview: Any) -> None:
        self.steps.append((i, n))


def common(latent: LatentValue, cfg: float = 2.5) -> dict[str, Any]:
    prompts = {"positive": POSITIVE, "negative": NEGATIVE}
    return {"ctx": Host(), "model": MODEL, **prompts, "latent_image": latent, "cfg": cfg}


def whole(latent: LatentValue = DRAWN, **changed: Any) -> Tensor:
    return ksampler(**{**common(latent), "seed": 5, "steps": 8, **changed}).samples


def part(latent: LatentValue, **changed: Any) -> LatentValue:
    return ksampler_advanced(**{**common(latent), "noise_seed": 5, "steps": 8, **changed})


LEFT: dict[str, Any] = {"return_with_leftover_noise": "enable"}
GO_ON: dict[str, Any] = {"add_noise": "disable"}


def schedule(steps: int = 8, **changed: Any) -> Tensor:
    return basic(**{"model": MODEL, "scheduler": "normal", "steps": steps, **changed})


def custom(latent: LatentValue, sigmas: Tensor, sampler: SamplerValue = EULER, **changed: Any) -> Any:
    return sampler_custom(**{**common(latent), "noise_seed": 5, "sampler": sampler, "sigmas": sigmas, **changed})


def advanced(latent: LatentValue, guider: GuiderValue, **changed: Any) -> Any:
    given = {"ctx": Host(), "noise": random_noise(noise_seed=5), "sampler": EULER, "sigmas": schedule(), **changed}
    return sampler_custom_advanced(guider=guider, latent_image=latent, **given)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpm_2", "euler_ancestral"])
def test_ksampler_advanced_over_all_steps_is_ksampler(sampler: str) -> None:
    assert torch.equal(part(DRAWN, sampler_name=sampler).samples, whole(sampler_name=sampler))


@pytest.mark.parametrize("sampler", ["euler", "heun", "ddim"])
@pytest.mark.parametrize("latent", [EMPTY, DRAWN])
def test_two_halves_are_the_whole(sampler: str, latent: LatentValue) -> None:
    for middle in (1, 4, 7):
        first = part(latent, sampler_name=sampler, end_at_step=middle, **LEFT)
        second = part(first, sampler_name=sampler, start_at_step=middle, **GO_ON)
        expected = whole(latent, sampler_name=sampler)
        torch.testing.assert_close(second.samples, expected, rtol=1e-4, atol=1e-4)
        assert second.noise_mask is latent.noise_mask


def test_without_leftover_noise_the_last_step_goes_to_none() -> None:
    first = part(EMPTY, end_at_step=3).samples
    steps = schedule()
    expected = custom(EMPTY, torch.cat([steps[:3], torch.zeros(1)])).output.samples
    assert torch.equal(first, expected) and float(first.std()) < float(part(EMPTY, end_at_step=3, **LEFT).samples.std())


def test_a_part_with_its_own_noise_starts_at_its_level() -> None:
    found = part(DRAWN, start_at_step=4).samples
    assert torch.equal(found, custom(DRAWN, schedule()[4:]).output.samples)
    assert not torch.allclose(found, part(DRAWN, start_at_step=4, **GO_ON).samples, atol=1e-2)


@pytest.mark.parametrize(("start", "end"), [(8, 10000), (9999, 10000), (5, 5), (5, 3)])
def test_a_part_without_a_step_gives_the_latent_back(start: int, end: int) -> None:
    assert torch.equal(part(DRAWN, start_at_step=start, end_at_step=end).samples, DRAWN.samples)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpmpp_2m_sde"])
def test_sampler_custom_and_its_advanced_form_are_ksampler(sampler: str) -> None:
    value = SamplerValue(sampler)
    found = custom(DRAWN, schedule(), value)
    guider = make_cfg_guider(model=MODEL, positive=POSITIVE, negative=NEGATIVE, cfg=2.5)
    found_too = advanced(DRAWN, guider, sampler=value)
    expected = whole(sampler_name=sampler)
    assert torch.equal(found.output.samples, expected) and torch.equal(found_too.output.samples, expected)
    assert torch.equal(found_too.denoised_output.samples, found.denoised_output.samples)


def test_a_schedule_cut_in_two_is_the_whole() -> None:
    high, low = split(sigmas=schedule(), step=5)
    first = custom(DRAWN, high).output
    second = custom(first, low, add_noise=False).output
    torch.testing.assert_close(second.samples, whole(), rtol=1e-4, atol=1e-4)


def test_the_denoised_output_is_the_estimate_of_the_last_step() -> None:
    sigmas = schedule()
    high, _ = split(sigmas=sigmas, step=5)
    found = custom(DRAWN, high)
    before, _ = split(sigmas=sigmas, step=4)
    x = custom(DRAWN, before).output.samples
    # an Euler step: x' = x + (x - x0) / sigma * (sigma' - sigma)
    expected = x - (found.output.samples - x) * sigmas[4] / (sigmas[5] - sigmas[4])
    torch.testing.assert_close(found.denoised_output.samples, expected, rtol=1e-3, atol=1e-3)
    assert found.denoised_output.noise_mask is DRAWN.noise_mask
    to_the_end = custom(DRAWN, sigmas)
    torch.testing.assert_close(to_the_end.denoised_output.samples, to_the_end.output.samples, rtol=1e-4, atol=1e-4)


def test_a_flipped_schedule_leads_from_a_picture_to_the_noise_it_comes_from() -> None:
    sigmas = schedule(200, denoise=0.1)
    noised = custom(DRAWN, flip(sigmas=sigmas), add_noise=False, cfg=1.0).output
    assert float(noised.samples.std()) > float(DRAWN.samples.std())
    again = custom(noised, sigmas, add_noise=False, cfg=1.0).output.samples
    torch.testing.assert_close(again, DRAWN.samples, rtol=0.05, atol=0.02)


def test_noise_added_before_is_noise_of_the_sampler() -> None:
    """Where the schedule starts below the highest level; there the sampler's noise is a little more."""
    sigmas = schedule()[4:]
    ctx: Any = Host()
    noised = add_noise(ctx=ctx, model=MODEL, noise=random_noise(noise_seed=5), sigmas=sigmas, latent_image=DRAWN)
    found = custom(noised, sigmas, add_noise=False).output.samples
    torch.testing.assert_close(found, custom(DRAWN, sigmas).output.samples, rtol=1e-4, atol=1e-4)


def test_a_guider_of_one_prompt_is_guidance_of_scale_one() -> None:
    guider = basic_guider(model=MODEL, conditioning=POSITIVE)
    assert torch.equal(advanced(DRAWN, guider).output.samples, whole(cfg=1.0))
    silent = advanced(DRAWN, guider, noise=disable_noise())
    assert torch.equal(silent.output.samples, custom(DRAWN, schedule(), add_noise=False, cfg=1.0).output.samples)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "seeds_3"])
def test_with_a_seed_each_every_sampler_node_makes_the_single_latents(sampler: str) -> None:
    latent = LatentValue(EMPTY.samples[:1].repeat(3, 1, 1, 1))
    alone = [whole(LatentValue(EMPTY.samples[:1]), seed=5 + k, sampler_name=sampler) for k in range(3)]
    guider = make_cfg_guider(model=MODEL, positive=POSITIVE, negative=NEGATIVE, cfg=2.5)
    noise = random_noise(noise_seed=5, batch_seeds="one each")
    made = [
        whole(latent, sampler_name=sampler, batch_seeds="one each"),
        part(latent, sampler_name=sampler, batch_seeds="one each").samples,
        advanced(latent, guider, noise=noise, sampler=SamplerValue(sampler)).output.samples,
    ]
    for found in made:
        torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_a_patched_model_leaves_the_model_it_came_from_untouched() -> None:
    before = whole()
    patched = replace(MODEL, patches=(APG(0.0, 1.0, -0.5),))
    first, again = (whole(model=patched) for _ in range(2))
    assert torch.equal(first, again) and not torch.allclose(first, before, atol=1e-3)
    assert torch.equal(whole(), before)


def test_progress_counts_the_steps_taken() -> None:
    host = Host()
    ksampler_advanced(**{**common(DRAWN), "ctx": host, "steps": 8, "start_at_step": 2, "end_at_step": 5})
    assert host.steps == [(1, 3), (2, 3), (3, 3)]


# --- with the model that ships ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("home")
    with Session(Settings(home=home, device="cpu", cache_dir=None, previews=True)) as session:
        yield session


def graph(steps: int = 4, batch: int = 1, checkpoint: str = "starter.safetensors", **sampler: Any) -> Workflow:
    return Workflow.of({
        "nodegraph": 1,
        "nodes": {
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red sphere", "clip": ["4", "CLIP"]}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 128, "batch_size": batch}},
            "3": {"class_type": "KSampler", "inputs": {
                "model": ["4", "MODEL"], "steps": steps, "cfg": 4.0, "positive": ["6", "CONDITIONING"],
                "negative": ["6", "CONDITIONING"], "latent_image": ["5", "LATENT"], **sampler}},
        },
        "outputs": {"latent": "3.LATENT"},
    })  # fmt: skip


def drawn(session: Session, workflow: Workflow) -> Tensor:
    return session.submit(session.prepare(workflow, wants_outputs=True), wants_values=True).result().latent.samples


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde"])
def test_picture_one_of_a_batch_is_the_single_picture_of_the_next_seed(shipped: Session, sampler: str) -> None:
    batch = drawn(shipped, graph(batch=2, sampler_name=sampler, seed=7, batch_seeds="one each"))
    for k in range(2):
        single = drawn(shipped, graph(sampler_name=sampler, seed=7 + k))
        assert float((batch[k] - single[0]).norm() / single.norm()) < 1e-3
    assert not torch.allclose(batch[0], batch[1], atol=0.1)


def pictures(session: Session, workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """The previews of a run whose every step waits for its own."""
    made = threading.Semaphore(0)
    step = Previews.step

    def waiting(self: Previews, i: int, n: int, x0: Tensor) -> None:
        step(self, i, n, x0)
        assert made.acquire(timeout=60)

    monkeypatch.setattr(Previews, "step", waiting)
    running = session.submit(session.prepare(workflow, wants_outputs=True), wants_values=True)
    found: list[Image.Image] = []
    for event in running:
        if isinstance(event, NodePreview) and event.node == "3":
            found.append(Image.open(io.BytesIO(event.image)))
            made.release()
    running.release()
    return found


def test_each_step_is_shown_at_the_size_of_the_picture(shipped: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pictures(shipped, graph(steps=3, batch=2, seed=31), monkeypatch)
    assert [(picture.format, picture.size) for picture in found] == [("JPEG", (64, 128))] * 3


def test_without_a_decoder_each_step_is_shown_at_the_size_of_the_latent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None, previews=True)) as session:
        copy = tmp_path / "models" / "checkpoints" / "other.safetensors"
        copy.parent.mkdir(parents=True)
        copy.symlink_to(session.folders.path("checkpoints", "starter.safetensors"))
        found = pictures(session, graph(steps=2, checkpoint="other.safetensors", seed=32), monkeypatch)
    assert [(picture.format, picture.size) for picture in found] == [("JPEG", (8, 16))] * 2


def test_a_cancelled_run_stops_within_a_step(shipped: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, cancelled = threading.Event(), threading.Event()
    step, check = Previews.step, Previews.check
    evaluations: list[None] = []

    def held(self: Previews, i: int, n: int, x0: Tensor) -> None:
        step(self, i, n, x0)
        reached.set()
        assert cancelled.wait(60)

    def counted(self: Previews) -> None:
        check(self)
        evaluations.append(None)

    monkeypatch.setattr(Previews, "step", held)
    monkeypatch.setattr(Previews, "check", counted)
    running = shipped.submit(shipped.prepare(graph(steps=50, seed=33), wants_outputs=True), wants_values=True)
    assert reached.wait(60)
    running.cancel()
    cancelled.set()
    steps = [event.step for event in running if isinstance(event, NodeProgress) and event.node == "3"]
    assert running.finished is not None and running.finished.status == "cancelled"
    assert steps == [1] and len(evaluations) == 1
