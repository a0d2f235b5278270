"""Stand-ins for what training tools left in old checkpoints beside the tensors: names, with nothing behind them."""

from __future__ import annotations

_LEFT = (
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),  # a key of `callbacks`
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),  # learning rates and losses
    ("numpy", "dtype"), ("_codecs", "encode"),  # of these
)  # fmt: skip


class Inert:
    """Takes whatever a pickle gives it, and keeps none of it."""

    def __init__(self, *_: object) -> None:
        """Forgets its arguments."""

    def __setstate__(self, _: object) -> None:
        """Forgets its state."""


STAND_INS: tuple[type, ...] = tuple(type(name, (Inert,), {"__module__": module}) for module, name in _LEFT)
"""For torch's `safe_globals`: what has one of these names in a file becomes an `Inert`; neither package is imported."""
