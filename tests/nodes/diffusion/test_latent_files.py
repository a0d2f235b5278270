"""Latents in files."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.errors import FileProblem
from nodes.diffusion.latent_files import read_latent, write_latent


def test_a_latent_comes_back_to_the_bit(tmp_path):
    latent = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).transpose(2, 3)
    with open(tmp_path / "a.latent", "wb") as file:
        write_latent(file, latent, {"prompt": "{}"})
    assert torch.equal(read_latent(str(tmp_path / "a.latent"), "a.latent"), latent)


def test_a_latent_without_a_version_is_scaled_as_sd1_has_it(tmp_path):
    save_file({"latent_tensor": torch.full((1, 4, 2, 2), 0.18215)}, tmp_path / "old.latent")
    torch.testing.assert_close(read_latent(str(tmp_path / "old.latent"), "old.latent"), torch.ones(1, 4, 2, 2))


def test_what_holds_no_latent_is_named(tmp_path):
    (tmp_path / "text.latent").write_text("not a latent")
    with pytest.raises(FileProblem, match=r"text\.latent cannot be read as a latent"):
        read_latent(str(tmp_path / "text.latent"), "text.latent")
    save_file({"weight": torch.ones(1)}, tmp_path / "other.latent")
    with pytest.raises(FileProblem, match=r"other\.latent holds no 'latent_tensor'"):
        read_latent(str(tmp_path / "other.latent"), "other.latent")
