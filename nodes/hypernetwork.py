"""Hypernetworks: small networks that change what a model attends to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from nodegraph.errors import FileProblem
from nodegraph.spec import node
from nodegraph.types import File, FileRef, Widget
from nodes.diffusion.foreign import refuse_foreign
from nodes.diffusion.headers import PICKLES, read_header, sniff
from nodes.types import Model

Strength = Annotated[float, Field(ge=-10.0, le=10.0), Widget(step=0.01)]


def _problems(*, hypernetwork_name: FileRef | None = None, **_: object) -> Iterator[str]:
    if hypernetwork_name is None:
        return
    path = Path(hypernetwork_name.path)
    try:
        sniff(path)
        if path.suffix.lower() not in PICKLES:
            refuse_foreign(path.name, read_header(path).tensors, "a hypernetwork")
    except FileProblem as problem:
        yield str(problem)
        return
    if path.suffix.lower() not in PICKLES:
        yield f"{path.name}: is not a hypernetwork; expected a .pt file as AUTOMATIC1111's web UI saves them"


@node("HypernetworkLoader", category="loaders", title="HypernetworkLoader", check=_problems)
def load_hypernetwork(
    *, model: Model, hypernetwork_name: Annotated[FileRef, File("hypernetworks")], strength: Strength = 1.0
) -> Model:
    """Change what a model attends to with a hypernetwork; several may follow one another.

    Args:
        model: The UNet.
        hypernetwork_name: A .pt file of AUTOMATIC1111's web UI, made for models like this one.
        strength: How much it changes; 0 is nothing.
    """
    from nodes.diffusion.hypernetwork import Hypernetwork

    file = hypernetwork_name
    return replace(model, patches=(*model.patches, Hypernetwork(file.name, file.path, file.digest, strength)))
