"""Set up before torch is imported: one thread, since small tensors on shared cores only wait for each other."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
