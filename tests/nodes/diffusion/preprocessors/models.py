"""Tiny models of transformers with random weights, in folders as their makers save them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers as tf

from nodegraph.types import FileRef
from tests.nodes.diffusion.preprocessors.hosts import ref


def save(path: Path, model: tf.PreTrainedModel, processor: object) -> FileRef:
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return ref(path)


def spread(model: tf.PreTrainedModel, factor: float = 3.0) -> tf.PreTrainedModel:
    """Larger weights, so that results differ from place to place."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * factor / parameter[0].numel() ** 0.5)
    return model.eval()


def dpt(path: Path) -> FileRef:
    config = tf.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[4, 6, 8, 8], fusion_hidden_size=8, is_hybrid=False,
        readout_type="project", reassemble_factors=[4, 2, 1, 0.5],
    )  # fmt: skip
    processor = tf.DPTImageProcessor(size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return save(path, spread(tf.DPTForDepthEstimation(config)), processor)


def segformer(path: Path, kinds: int) -> FileRef:
    config = tf.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=kinds,
    )  # fmt: skip
    processor = tf.SegformerImageProcessor(size={"height": 64, "width": 64})
    return save(path, spread(tf.SegformerForSemanticSegmentation(config)), processor)


def detector(path: Path) -> FileRef:
    config = tf.YolosConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=[64, 64],
        patch_size=16, num_detection_tokens=6, id2label={0: "person", 1: "cat"}, label2id={"person": 0, "cat": 1},
    )  # fmt: skip
    processor = tf.YolosImageProcessor(size={"height": 64, "width": 64}, do_pad=False)
    return save(path, spread(tf.YolosForObjectDetection(config)), processor)


def vitpose(path: Path, experts: int = 1) -> FileRef:
    backbone = tf.VitPoseBackboneConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=[64, 48], patch_size=[16, 16],
        num_experts=experts, part_features=4 if experts > 1 else 0, out_indices=[2],
    )  # fmt: skip
    config = tf.VitPoseConfig(backbone_config=backbone, num_labels=17, use_simple_decoder=True)
    processor = tf.VitPoseImageProcessor(size={"height": 64, "width": 48})
    return save(path, spread(tf.VitPoseForPoseEstimation(config)), processor)


def oneformer(path: Path) -> FileRef:
    """Its preprocessing names a file of classes that is not in the folder, as in those that are shared."""
    backbone = tf.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.OneFormerConfig(
        backbone_config=backbone, num_queries=5, conv_dim=32, mask_dim=32, hidden_dim=32, num_attention_heads=2,
        dim_feedforward=16, encoder_feedforward_dim=16, decoder_layers=2, encoder_layers=1, text_encoder_width=32,
        text_encoder_context_length=16, text_encoder_num_layers=1, text_encoder_vocab_size=64, task_seq_len=24,
        max_seq_len=16, is_training=False, id2label={i: f"kind {i}" for i in range(7)},
    )  # fmt: skip
    path.mkdir(parents=True)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    spread(tf.OneFormerForUniversalSegmentation(config)).save_pretrained(path)
    tf.OneFormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(path)
    settings = json.loads((path / "preprocessor_config.json").read_text())
    settings |= {"class_info_file": "coco_panoptic.json", "repo_path": "shi-labs/oneformer_demo"}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    return ref(path)
