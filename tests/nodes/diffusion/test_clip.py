"""The text encoder against those of transformers and open_clip, with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nodes.diffusion.architecture import ClipConfig
from nodes.diffusion.checkpoints import Role, read_clip
from nodes.diffusion.clip import END, ClipTextModel

SMALL = ClipConfig(hidden=64, layers=3, heads=1, intermediate=96)


def small_model() -> ClipTextModel:
    torch.manual_seed(0)
    model = ClipTextModel(SMALL).eval().requires_grad_(False)
    for embedding in (model.text_model.embeddings.token_embedding, model.text_model.embeddings.position_embedding):
        torch.nn.init.normal_(embedding.weight)
    return model


def prompts(pad: int) -> Tensor:
    torch.manual_seed(1)
    tokens = torch.full((3, 77), pad)
    for row, length in enumerate((0, 5, 75)):
        tokens[row, : length + 2] = torch.tensor([49406, *torch.randint(0, 49406, (length,)).tolist(), END])
    return tokens


@pytest.mark.parametrize(("role", "activation"), [("clip_l", "quick_gelu"), ("clip_g", "gelu")])
def test_it_computes_what_transformers_computes(tmp_path: Path, role: Role, activation: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=1, intermediate_size=96, hidden_act=activation,
        projection_dim=48, bos_token_id=49406, eos_token_id=END,
    )  # fmt: skip
    theirs = transformers.CLIPTextModelWithProjection(config).eval()
    save_file(theirs.state_dict(), tmp_path / "clip.safetensors")
    ours = read_clip(tmp_path / "clip.safetensors", "digest", role, "sdxl").load("cpu", torch.float32)
    tokens = prompts(END if role == "clip_l" else 0)
    with torch.no_grad():
        expected = theirs(tokens, output_hidden_states=True)
        for layer in (-1, -2, -3):
            encoded = ours(tokens, layer, final_norm=False)
            torch.testing.assert_close(encoded.hidden, expected.hidden_states[layer], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours(tokens).hidden, expected.last_hidden_state, rtol=1e-5, atol=1e-5)
        if role == "clip_g":
            torch.testing.assert_close(ours(tokens).pooled, expected.text_embeds, rtol=1e-5, atol=1e-5)


def test_it_computes_what_open_clip_computes(tmp_path: Path) -> None:
    transformer = pytest.importorskip("open_clip.transformer")
    torch.manual_seed(0)
    theirs = transformer.TextTransformer(77, 49408, width=64, heads=1, layers=3, mlp_ratio=1.5, output_dim=64).eval()
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name != "attn_mask"}
    torch.nn.init.normal_(state["text_projection"], std=0.1)
    theirs.load_state_dict(state, strict=False)
    save_file(state, tmp_path / "clip.safetensors")
    part = read_clip(tmp_path / "clip.safetensors", "digest", "clip_h", "sd2")
    assert (part.config.layout, part.config.projection, part.config.layers) == ("openclip", 64, 3)
    ours = part.load("cpu", torch.float32)
    tokens = prompts(0)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens).pooled, theirs(tokens), rtol=1e-5, atol=1e-5)


def test_the_final_norm_follows_any_layer_when_asked() -> None:
    model = small_model()
    tokens = prompts(END)
    plain, normed = model(tokens, -2, final_norm=False), model(tokens, -2, final_norm=True)
    assert torch.equal(model.text_model.final_layer_norm(plain.hidden), normed.hidden)
    assert torch.equal(plain.pooled, normed.pooled)


def test_a_layer_beyond_the_first_is_the_last_one_normed() -> None:
    model = small_model()
    tokens = prompts(END)
    assert torch.equal(model(tokens, -24, final_norm=False).hidden, model(tokens).hidden)


def test_pooled_is_the_state_at_the_first_end_token() -> None:
    model = small_model()
    tokens = prompts(END)
    encoded = model(tokens)
    for row, length in enumerate((0, 5, 75)):
        assert torch.equal(encoded.pooled[row], encoded.hidden[row, length + 1])
