"""Exit codes, and the status that JSON results name them by."""

from __future__ import annotations

from collections.abc import Mapping

from nodegraph.errors import NodeError, NodegraphError, StorageError, WorkflowError

OK, USAGE, INVALID, MISSING, FAILED, OUT_OF_MEMORY, CANCELLED = 0, 2, 3, 4, 5, 6, 7
STATUS: Mapping[int, str] = {
    OK: "success", USAGE: "usage", INVALID: "invalid", MISSING: "missing", FAILED: "error",
    OUT_OF_MEMORY: "out_of_memory", CANCELLED: "cancelled",
}  # fmt: skip


def code_of(error: NodegraphError) -> int:
    """The exit code of an error."""
    if isinstance(error, WorkflowError):
        return MISSING if error.problems and error.is_only_missing else INVALID
    if isinstance(error, NodeError):
        return OUT_OF_MEMORY if error.is_out_of_memory else FAILED
    return FAILED if isinstance(error, StorageError) else USAGE
