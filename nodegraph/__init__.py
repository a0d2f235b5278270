"""A typed node-graph engine for diffusion models: workflows as documents, functions and cached graphs.

import nodegraph
picture = nodegraph.load("text_to_image")(prompt="a large red sphere", seed=7).image
"""

from __future__ import annotations

import atexit
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from nodegraph.context import Context
from nodegraph.errors import NodeError, NodegraphError, WorkflowError
from nodegraph.session import Function, Result, Running, Session, Settings
from nodegraph.spec import node
from nodegraph.types import Choices, Each, File, FileRef, Lazy, Port, Widget
from nodegraph.workflow import Workflow

__all__ = [
    "Choices", "Context", "Each", "File", "FileRef", "Function", "Lazy", "NodeError", "NodegraphError", "Port",
    "Result", "Running", "Session", "Settings", "Widget", "Workflow", "WorkflowError", "__version__", "load", "node",
]  # fmt: skip

try:
    __version__ = metadata.version("nodegraph")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0"


def load(name: str | Path) -> Function:
    """A workflow as a Python function of its declared inputs, in a session that lasts as long as the process.

    Args:
        name: a JSON file, a picture that carries a workflow, or a name in the library.

    Raises:
        FileProblem: there is no such file.
        WorkflowError: it is not a workflow.
    """
    return _session().load(name)


@lru_cache(maxsize=1)
def _session() -> Session:
    session = Session()
    atexit.register(session.close)  # threads that still run when the interpreter ends may abort the process
    return session
