"""The names of samplers and schedulers, in ComfyUI's order. Importable without torch: node signatures need them."""

from __future__ import annotations

SCHEDULERS = (
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic",
    "kl_optimal",
)  # fmt: skip

SAMPLERS = (
    "euler", "euler_ancestral", "heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "lms", "dpmpp_2s_ancestral",
    "dpmpp_2m", "ddpm", "lcm", "ipndm", "ipndm_v", "deis", "res_multistep", "gradient_estimation", "ddim", "uni_pc",
    "uni_pc_bh2", "pndm",
)  # fmt: skip
