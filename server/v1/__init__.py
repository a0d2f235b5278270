"""Our own API, under `/v1`."""

from __future__ import annotations

from server.v1.table import routes

__all__ = ["routes"]
