"""What A1111 calls samplers, schedules and upscalers, and what its fields are about.

Source: AUTOMATIC1111/stable-diffusion-webui 1.10 (`sd_samplers_kdiffusion.py`, `sd_samplers_timesteps.py`,
`sd_schedulers.py`, `realesrgan_model.py`) and Forge, for the names.
"""

from __future__ import annotations

from collections.abc import Mapping

SAMPLERS: Mapping[str, tuple[str, str]] = {
    "dpm++ 2m": ("dpmpp_2m", "karras"), "dpm++ sde": ("dpmpp_sde", "karras"),
    "dpm++ 2m sde": ("dpmpp_2m_sde", "exponential"), "dpm++ 2m sde heun": ("dpmpp_2m_sde_heun", "exponential"),
    "dpm++ 2s a": ("dpmpp_2s_ancestral", "karras"), "dpm++ 3m sde": ("dpmpp_3m_sde", "exponential"),
    "euler a": ("euler_ancestral", "normal"), "euler": ("euler", "normal"), "lms": ("lms", "normal"),
    "heun": ("heun", "normal"), "dpm2": ("dpm_2", "karras"), "dpm2 a": ("dpm_2_ancestral", "karras"),
    "dpm fast": ("dpm_fast", "normal"), "dpm adaptive": ("dpm_adaptive", "normal"), "ddim": ("ddim", "ddim_uniform"),
    "plms": ("pndm", "ddim_uniform"), "unipc": ("uni_pc", "normal"), "lcm": ("lcm", "sgm_uniform"),
    "ddpm": ("ddpm", "normal"), "deis": ("deis", "normal"), "heunpp2": ("heunpp2", "normal"),
    "ipndm": ("ipndm", "normal"), "ipndm_v": ("ipndm_v", "normal"), "dpm++ 2m cfg++": ("dpmpp_2m_cfg_pp", "karras"),
    "euler cfg++": ("euler_cfg_pp", "normal"), "euler a cfg++": ("euler_ancestral_cfg_pp", "normal"),
}  # fmt: skip
"""By A1111's name: ours, and the schedule that it takes where `Automatic` is chosen."""

SCHEDULES: Mapping[str, str] = {
    "uniform": "normal", "karras": "karras", "exponential": "exponential", "polyexponential": "exponential",
    "sgm uniform": "sgm_uniform", "kl optimal": "kl_optimal", "simple": "simple", "normal": "normal",
    "ddim": "ddim_uniform", "beta": "beta", "linear quadratic": "linear_quadratic",
}  # fmt: skip

LATENT_UPSCALERS: Mapping[str, str] = {
    "latent": "bilinear", "latent (antialiased)": "bilinear", "latent (bicubic)": "bicubic",
    "latent (bicubic antialiased)": "bicubic", "latent (nearest)": "nearest-exact",
    "latent (nearest-exact)": "nearest-exact",
}  # fmt: skip
IMAGE_UPSCALERS: Mapping[str, str] = {"none": "lanczos", "lanczos": "lanczos", "nearest": "nearest-exact"}
UPSCALE_MODELS: Mapping[str, str] = {
    "r-esrgan 4x+": "RealESRGAN_x4plus", "r-esrgan 4x+ anime6b": "RealESRGAN_x4plus_anime_6B",
    "r-esrgan 2x+": "RealESRGAN_x2plus", "r-esrgan general 4xv3": "realesr-general-x4v3",
    "r-esrgan general wdn 4xv3": "realesr-general-wdn-x4v3", "r-esrgan animevideo": "realesr-animevideov3",
    "swinir 4x": "SwinIR_4x", "dat x2": "DAT_x2", "dat x3": "DAT_x3", "dat x4": "DAT_x4",
}  # fmt: skip
"""A1111's own names for files it downloads."""

QUIET = frozenset({
    "model hash", "vae hash", "lora hashes", "hashes", "version", "app", "batch size", "batch pos", "created date",
    "civitai metadata", "user", "operations", "parser", "backend",
})  # fmt: skip
"""Fields that change nothing of a picture."""

HINTS: Mapping[str, str] = {
    "controlnet": "wire ControlNetLoader and ControlNetApplyAdvanced with its picture",
    "adetailer": "it draws faces or hands once more after all else",
    "refiner": "wire two KSamplerAdvanced, the second with the refiner",
    "ensd": "it gives ancestral samplers other noise", "eta": "it changes the noise of ancestral samplers",
    "variation": "it mixes the noise of two seeds", "token merging": "wire TomePatchModel", "freeu": "wire FreeU_V2",
    "cfg rescale": "wire RescaleCFG", "first pass": "it was drawn smaller first; wire LatentUpscale and KSampler",
    "hypertile": "wire HyperTile", "hires checkpoint": "wire another CheckpointLoaderSimple to the second pass",
    "mask": "it was inpainted: wire LoadImage and VAEEncodeForInpaint", "tiling": "the picture's edges meet there",
}  # fmt: skip
"""What to say of fields that begin so."""
