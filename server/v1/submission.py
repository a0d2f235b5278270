"""What a submission means: its workflow with inputs set, and what its idempotency key stands for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from nodegraph.comfy import from_editor
from nodegraph.comfy_file import is_editor_file
from nodegraph.registry import Registry
from nodegraph.workflow import Workflow
from server.v1.operation import Call


async def workflow_of(call: Call, source: str | dict[str, Any], inputs: Mapping[str, Any] | None = None) -> Workflow:
    """The workflow of a name or a document, with its declared inputs set.

    Args:
        call: the request.
        source: a name in the library, our document, or ComfyUI's API graph or editor file.
        inputs: values by name; None leaves them as they are.

    Raises:
        FileProblem: the library has none of this name.
        WorkflowError: it is no workflow, or an input is not declared or has no value.
    """
    if isinstance(source, str):
        workflow = await open_workflow(call, source)
    else:
        desk = call.service.desk
        workflow = await desk.do(read_document, source, await desk.registry())
    return workflow if inputs is None else workflow.with_inputs(inputs)


async def open_workflow(call: Call, name: str) -> Workflow:
    """A workflow of the library; unless it says otherwise it is called what it is called there.

    Raises:
        FileProblem: there is none.
        WorkflowError: the file is no workflow.
    """
    workflow = (await call.service.desk.open(name.removesuffix(".json"))).workflow
    return workflow if workflow.name else workflow.model_copy(update={"name": name.removesuffix(".json")})


def read_document(document: dict[str, Any], registry: Registry) -> Workflow:
    """A workflow from JSON values.

    Raises:
        WorkflowError: they are none.
    """
    return Workflow.of(from_editor(document, registry.get) if is_editor_file(document) else document)


def key_of(call: Call, *parts: bytes) -> str:
    """The digest of a request, by which one that comes again with its idempotency key is known."""
    state = hashlib.blake2b(f"{call.request.method} {call.request.rel_url.raw_path}\n".encode(), digest_size=16)
    for part in parts:
        state.update(len(part).to_bytes(8, "big") + part)
    return state.hexdigest()
