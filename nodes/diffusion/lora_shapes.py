"""What LoRA files hold, by the shapes of their tensors: the kinds of change, their size, and the family. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from nodegraph.errors import FileProblem
from nodes.diffusion.architecture import FAMILY_NAMES, Family, family_name
from nodes.diffusion.foreign import name_kind, refuse_foreign, refuse_quantised
from nodes.diffusion.headers import PICKLES, Header, read_header, sniff
from nodes.diffusion.lora_names import Pieces, pieces_of

Kind = Literal["set", "diff", "oft", "boft", "glora", "lokr", "loha", "lora"]
Shape = tuple[int, ...]

_SCALES = {"alpha", "dora_scale"}
# Of a layer with pieces of several kinds the first here counts, as in ComfyUI.
_KINDS: tuple[tuple[Kind, set[str], set[str]], ...] = (  # kind, one of which tells, further pieces
    ("set", {"set_weight"}, set()),
    ("diff", {"diff"}, set()),
    ("oft", {"oft_blocks"}, {"rescale"}),
    ("glora", {"a1"}, {"a2", "b1", "b2"}),
    ("lokr", {"lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w2_a"}, {"lokr_w1_b", "lokr_w2_b", "lokr_t2"}),
    ("loha", {"hada_w1_a"}, {"hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"}),
    ("lora", {"up"}, {"down", "mid", "reshape_weight"}),
)
_FORMATS = "LoRA, LoCon, LoHa, LoKr, GLoRA, OFT, BOFT, DoRA and differences of weights"
_OTHERS = re.compile(r"(?:double_blocks|single_blocks|joint_blocks|single_transformer_blocks|lora_transformer_)")
_CROSS = re.compile(r"attn2[_.](?:processor\.)?to_k$")


class Adapter(NamedTuple):
    """What a file does to one tensor.

    Attributes:
        kind: how.
        names: the tensors of the file that say what, by piece.
    """

    kind: Kind
    names: Pieces


def adapters_of(pieces: Pieces, shapes: Mapping[str, Shape]) -> dict[str, Adapter]:
    """What the pieces of a layer do to its `weight` and its `bias`.

    Args:
        pieces: of one layer.
        shapes: of all tensors of the file, by name.
    """
    found: dict[str, Adapter] = {}
    for kind, marks, further in _KINDS:
        if marks & pieces.keys():
            names = {piece: name for piece, name in pieces.items() if piece in marks | further | _SCALES}
            is_butterfly = kind == "oft" and len(shapes[pieces["oft_blocks"]]) == 4
            found["weight"] = Adapter("boft" if is_butterfly else kind, names)
            break
    if "diff_b" in pieces:
        found["bias"] = Adapter("diff", {"diff": pieces["diff_b"]})
    return found


def extent(adapter: Adapter, shapes: Mapping[str, Shape]) -> tuple[int, int | None] | None:
    """The rows and columns of the weights that an adapter changes, seen as a matrix; a rotation takes any columns.

    None where pieces are missing, empty, or do not fit each other.
    """
    own = {piece: shapes[name] for piece, name in adapter.names.items()}
    if math.prod(own.get("alpha", ())) != 1 or not all(map(math.prod, own.values())):
        return None
    try:
        return _EXTENTS[adapter.kind](own)
    except (KeyError, IndexError, ValueError):
        return None


def _lora(s: Mapping[str, Shape]) -> tuple[int, int] | None:
    up, down, mid = s["up"], s["down"], s.get("mid", ())
    is_chain = bool(up[1:]) and math.prod(up[1:]) == (mid or down)[0] and (not mid or mid[1] == down[0])
    return (up[0], math.prod(down[1:]) * math.prod(mid[2:])) if is_chain else None


def _loha(s: Mapping[str, Shape]) -> tuple[int, int] | None:
    first, second = (_factored(s, f"hada_w{n}_a", f"hada_w{n}_b", f"hada_t{n}") for n in (1, 2))
    return None if first is None or first != second else (first[0], math.prod(first[1:]))


def _lokr(s: Mapping[str, Shape]) -> tuple[int, int] | None:
    left = s.get("lokr_w1") or _factored(s, "lokr_w1_a", "lokr_w1_b")
    right = s.get("lokr_w2") or _factored(s, "lokr_w2_a", "lokr_w2_b", "lokr_t2")
    return (left[0] * right[0], left[1] * math.prod(right[1:])) if left and right else None


def _factored(s: Mapping[str, Shape], rows: str, columns: str, core: str = "") -> Shape | None:
    """The shape of a product of two matrices, or of a core [rank, rank, ...] with [rank, rows] and [rank, columns]."""
    a, b = s[rows], s[columns]
    if core in s:
        return (a[1], b[1], *s[core][2:]) if (a[0], b[0]) == s[core][:2] else None
    return (a[0], b[1]) if a[1] == b[0] else None


def _glora(s: Mapping[str, Shape]) -> tuple[int, int] | None:
    a1, a2, b1, b2 = (s[name] for name in ("a1", "a2", "b1", "b2"))
    if b2[0] == b1[1] == a1[1] == a2[0] and a1[0] == a2[1] == b2[1]:
        return b1[0], math.prod(b2[1:])
    columns = math.prod(b1[1:])
    return (b2[0], columns) if b2[1] == b1[0] == a1[0] == a2[1] and a1[1] == a2[0] == columns else None


def _oft(s: Mapping[str, Shape]) -> tuple[int, None] | None:
    count, size, other = s["oft_blocks"]
    return (count * size, None) if size == other else None


def _boft(s: Mapping[str, Shape]) -> tuple[int, None] | None:
    factors, count, size, other = s["oft_blocks"]
    rows = count * size
    return (rows, None) if size == other and size % 2 == 0 and rows % (size * 2 ** (factors - 1)) == 0 else None


def _whole(s: Mapping[str, Shape]) -> tuple[int, int]:
    (shape,) = (shape for piece, shape in s.items() if piece not in _SCALES)
    return shape[0], math.prod(shape[1:])


_EXTENTS: Mapping[Kind, Callable[[Mapping[str, Shape]], tuple[int, int | None] | None]] = {
    "lora": _lora, "loha": _loha, "lokr": _lokr, "glora": _glora, "diff": _whole, "set": _whole,
    "oft": _oft, "boft": _boft,
}  # fmt: skip


def read_lora(path: str | Path) -> Header:
    """Reads what a LoRA file holds.

    Raises:
        FileProblem: it is damaged, or no LoRA, or one of a family that is not supported.
    """
    path = Path(path)
    header = read_header(path)
    layers, _ = pieces_of(header.tensors)
    if not layers:
        unread = next((name for name in header.tensors if name.startswith(("lora_unet_", "lora_te", "lycoris_"))), None)
        if unread is not None:
            raise FileProblem(f"{path.name}: is a LoRA in a format that is not supported ({unread}); {_FORMATS} are")
        refuse_foreign(path.name, header.tensors, "a LoRA")
        raise name_kind(path.name, header.tensors, "a LoRA", f"that is known; {_FORMATS} are")
    if any(_OTHERS.search(layer) for layer in layers):
        raise FileProblem(
            f"{path.name}: is a LoRA of another family (Flux, SD3 or a relative), which is not supported; choose one "
            "of SD1, SD2 or SDXL"
        )
    refuse_quantised(path.name, header.tensors.values())
    return header


def lora_problems(path: str | Path) -> list[str]:
    """What is wrong with a LoRA file, found without torch, so that a plan can say so. A pickle is only sniffed at."""
    try:
        if Path(path).suffix.lower() in PICKLES:
            sniff(Path(path))
        else:
            read_lora(path)
    except FileProblem as problem:
        return [str(problem)]
    return []


@lru_cache(maxsize=256)
def lora_family(path: str, digest: str) -> str | None:
    """The family a LoRA was made for, named as `checkpoints.family_of` does; no torch.

    The width of the prompts its layers take tells it, and where that is unusual what its metadata says of its model.
    None where it cannot be told: of a pickle, of one without cross-attention, of one that contradicts itself.

    Args:
        path: the file.
        digest: of its content.

    Raises:
        FileProblem: see `read_lora`.
    """
    if Path(path).suffix.lower() in PICKLES:
        return None
    header = read_lora(path)
    width = prompt_width(header)
    if width is None:
        return None
    told = _told(header.metadata)
    usual: Family | None = next((f for f, name in FAMILY_NAMES.items() if family_name(f, width) == name), None)
    if usual is not None:
        return FAMILY_NAMES[usual] if told in (None, usual) else None
    return family_name(told, width) if told else None


def prompt_width(header: Header) -> int | None:
    """The width of the prompts that a LoRA's cross-attention takes; None without, or where there are several."""
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    widths: set[int] = set()
    for layer, pieces in pieces_of(shapes)[0].items():
        adapter = adapters_of(pieces, shapes).get("weight") if _CROSS.search(layer) else None
        size = extent(adapter, shapes) if adapter else None
        if size is not None and size[1] is not None:
            widths.add(size[1])
    return widths.pop() if len(widths) == 1 else None


def _told(metadata: Mapping[str, str]) -> Family | None:
    """What the metadata of kohya's trainers (`ss_base_model_version`) or of modelspec says of the model."""
    base = str(metadata.get("ss_base_model_version", "")).lower()
    spec = str(metadata.get("modelspec.architecture", "")).lower()
    if "refiner" in base + spec:
        return "sdxl_refiner"
    marks: tuple[tuple[Family, str, str], ...] = (
        ("sdxl", "sdxl", "stable-diffusion-xl"), ("sd2", "sd_v2", "stable-diffusion-v2"),
        ("sd1", "sd_v1", "stable-diffusion-v1"),
    )  # fmt: skip
    return next((family for family, ss, ms in marks if base.startswith(ss) or spec.startswith(ms)), None)
