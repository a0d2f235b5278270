"""Models of transformers in a folder on this machine: with their preprocessing, as the engine loads models.

Nothing is downloaded and no code of a folder is run. `check` needs no torch and no transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.errors import FileProblem
from nodes.diffusion.file_weights import FileWeights
from nodes.diffusion.headers import read_json

if TYPE_CHECKING:
    import torch

    from nodegraph.types import FileRef

_TASKS: Mapping[str, tuple[str, str, str]] = {  # architectures, in words, how to get one
    "depth": ("DepthEstimation", "estimates depth", "depth-anything/Depth-Anything-V2-Large-hf"),
    "segmentation": ("(Semantic|Universal)Segmentation", "segments", "shi-labs/oneformer_coco_swin_large"),
    "detection": ("ForObjectDetection", "detects objects", "PekingU/rtdetr_r50vd_coco_o365"),
    "pose": ("VitPoseForPoseEstimation", "estimates poses", "usyd-community/vitpose-base-simple"),
}


def check(task: str, file: FileRef) -> list[str]:
    """What is wrong with a folder as a model of a task, told by its config.json: at most one sentence.

    Args:
        task: `depth`, `segmentation`, `detection` or `pose`.
        file: the folder.
    """
    pattern, words, example = _TASKS[task]
    instead = f"expected a model folder of transformers that {words}, such as https://huggingface.co/{example}"
    if not Path(file.path).is_dir():
        return [f"{file.name} is a file; {instead}"]
    try:
        found = read_json(Path(file.path) / "config.json").get("architectures")
    except FileProblem as error:
        return [f"{error}; {instead}"]
    names = [str(name) for name in found] if isinstance(found, list) else []
    if not any(re.search(pattern, name) for name in names):
        return [f"{file.name} holds {', '.join(names) or 'no named architecture'}; {instead}"]
    return []


@dataclass(frozen=True, slots=True)
class PretrainedPart(FileWeights):
    """The weights of a folder, and what they are for."""

    task: str
    file: FileRef

    @property
    def fingerprint(self) -> str:
        """Equal for equal weights."""
        return f"{self.task}-{self.file.digest}"

    def load(self, device: torch.device, dtype: torch.dtype, variants: Sequence[Any] = ()) -> Any:
        """The model, with its preprocessing as `processor`. Raises FileProblem when the folder lacks anything."""
        import transformers

        problems = check(self.task, self.file)
        if problems:
            raise FileProblem(problems[0])
        path = self.file.path
        where = {"local_files_only": True, "trust_remote_code": False}
        architecture = next(
            name
            for name in read_json(Path(path) / "config.json")["architectures"]
            if re.search(_TASKS[self.task][0], name)
        )
        cls = getattr(transformers, architecture, None)
        if cls is None:
            raise FileProblem(f"{self.file.name} holds {architecture}, which transformers {transformers.__version__} "
                              "does not have; update it with: pip install --upgrade transformers")  # fmt: skip
        try:
            transformers.utils.logging.disable_progress_bar()
            config = transformers.AutoConfig.from_pretrained(path, **where)
            if getattr(config, "use_pretrained_backbone", False):
                config.use_pretrained_backbone = False  # else weights that the folder holds would be fetched first
            model, told = cls.from_pretrained(path, config=config, output_loading_info=True, **where)
            model.processor = _processor(transformers, model.config, path, where)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            what = (str(error).strip() or repr(error)).splitlines()[0]
            raise FileProblem(f"{self.file.name} cannot be loaded: {what}") from error
        if told["missing_keys"]:
            raise FileProblem(f"{self.file.name} lacks tensors: {', '.join(sorted(told['missing_keys'])[:3])}, ...")
        return model.to(device, dtype).requires_grad_(False).eval()


def _processor(transformers: Any, config: Any, path: str, where: Mapping[str, Any]) -> Any:
    """What makes inputs of pictures and results of outputs.

    OneFormer's would fetch names of classes that only training needs; it is made without them.
    """
    if config.model_type != "oneformer":
        return transformers.AutoImageProcessor.from_pretrained(path, **where)
    images = transformers.OneFormerImageProcessor.from_pretrained(path, class_info_file=None, **where)
    tokens = transformers.CLIPTokenizer.from_pretrained(path, **where)
    return transformers.OneFormerProcessor(images, tokens, task_seq_length=config.task_seq_len)
