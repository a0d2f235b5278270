"""Pictures for stdout."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from nodegraph.documents import metadata_of
from nodegraph.subgraph import Find
from nodegraph.workflow import Workflow


def png_of(value: Any, workflow: Workflow, find: Find) -> bytes:
    """The first image of a batch [B, H, W, C], 0..1, as a PNG that carries its workflow; `find` gives node types."""
    import numpy
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    batch = numpy.asarray(value.detach().cpu() if hasattr(value, "detach") else value, numpy.float32)
    pixels = (batch[0] * 255).clip(0, 255).astype(numpy.uint8)  # cut off, as SaveImage does
    texts = PngInfo()
    for key, text in metadata_of(workflow, find).items():
        texts.add_text(key, text)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        file, "PNG", pnginfo=texts, compress_level=4
    )
    return file.getvalue()


def png_from(path: Path) -> bytes:
    """A saved picture as PNG."""
    if path.suffix.lower() == ".png":
        return path.read_bytes()
    from PIL import Image

    file = io.BytesIO()
    opened: Any = Image.open(path)
    with opened as picture:
        picture.save(file, "PNG")
    return file.getvalue()
