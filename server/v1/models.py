"""What runs, workflows, nodes and files look like in this API."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Annotated, Any, Literal, overload
from urllib.parse import quote

from pydantic import AwareDatetime, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

from nodegraph.workflow import Workflow
from server.problems import Fault, View
from server.records import FileRecord, NodeRecord, Record
from server.v1.reading import Body, Parameters

RunStatus = Literal["queued", "running", "success", "error", "cancelled"]
FINISHED = ("success", "error", "cancelled")
PART = r'[^\x00-\x1f\x7f/\\:*?"<>|.][^\x00-\x1f\x7f/\\:*?"<>|]*'
NAME = rf"^{PART}(/{PART})*$"
PLAIN = r"^[^\x00-\x1f\x7f]*$"

RunId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/]+$", description="id of a run")]
WorkflowName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        pattern=NAME,
        description="a name in the library; `/` between folders",
        examples=["text_to_image"],
    ),
]
Priority = Annotated[int, Field(ge=-1000, le=1000, description="runs of a higher one go first")]
IdempotencyKey = Annotated[
    str | None,
    Field(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$",
          description="the same key with the same request within a day gives the same run, not a second one"),
]  # fmt: skip
ETAG = r'^(\*|(W/)?"[!#-~]*")$'


class _Documents:
    """Shows the schema of a workflow in place of that of any object."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        whole: Any = Workflow.__pydantic_core_schema__
        graph = {"type": "object", "description": "ComfyUI's API graph, nodes by id; or a file of its editor"}
        return {"anyOf": [handler(whole), graph]}


Document = Annotated[dict[str, Any], _Documents()]


class RunPath(Parameters):
    """A run."""

    id: RunId


class WorkflowPath(Parameters):
    """A workflow of the library."""

    name: WorkflowName


class KeyHeaders(Parameters):
    """Headers of a submission."""

    key: IdempotencyKey = None


class Submission(Body):
    """A run to be made."""

    workflow: WorkflowName | Document = Field(
        description="a document, ComfyUI's API graph, or a name in the library", examples=["text_to_image"]
    )
    inputs: dict[str, Any] = Field(
        default={},
        description="values of the inputs the workflow declares",
        examples=[{"prompt": "a large red sphere"}],
    )
    targets: list[Annotated[str, Field(min_length=1, max_length=200)]] | None = Field(
        default=None, max_length=1000, description="ids of the nodes wanted; by default all that save something"
    )
    priority: Priority = 0
    client: str = Field(default="", max_length=200, pattern=PLAIN, description="a name for whose run it is")


class File(View):
    """A file that a run saved."""

    node: str
    type: Literal["output", "temp"]
    subfolder: str
    filename: str
    format: str
    bytes: int
    url: str = Field(description="where to get it; takes `format` and `size`")


class Node(View):
    """What became of a node of a run; times in seconds since the run began."""

    node: str
    class_type: str
    state: str = Field(description="`ran`, `cached`, `failed`, `blocked`, or `running` when the run was stopped in it")
    why: str | None = Field(description="why it ran: what changed since its workflow was run last")
    tier: str | None = Field(description="where it was cached: `memory` or `disk`")
    start: float
    seconds: float
    bytes: int
    notes: list[str] = Field(default=[], description="what it had to say that is no error")


class RunError(View):
    """Why a run failed."""

    model_config = ConfigDict(extra="allow")

    message: str
    node: str | None = None
    class_type: str | None = None


class RunSummary(View):
    """A run, in short."""

    id: str
    status: RunStatus
    workflow: str = Field(description="its name, where it has one")
    priority: int
    client: str
    owner: str = Field(description="name of the token it came with")
    created: AwareDatetime
    started: AwareDatetime | None
    finished: AwareDatetime | None
    waited: float | None = Field(description="seconds in the queue")
    seconds: float | None = Field(description="seconds from its start to its end")
    attempts: int = Field(description="how often a worker was given it")
    retry_of: str | None = Field(description="the run it repeats")
    error: RunError | None
    files: list[File]
    url: str


class Run(RunSummary):
    """A run."""

    position: int | None = Field(description="how many runs go before it, while it waits")
    targets: list[str] | None
    nodes: list[Node]
    outputs: dict[str, Any] = Field(description="by node, as ComfyUI's history has them")
    result: dict[str, Any] = Field(description="the outputs the workflow declares: values, or files")


class RunList(View):
    """Some runs, the newest first."""

    runs: list[RunSummary]
    total: int = Field(description="how many match")
    next: str | None = Field(description="`cursor` of the next page")


class Problems(View):
    """What is wrong with a workflow; nothing when it is sound."""

    valid: bool
    problems: list[Fault]


def run_of(record: Record, position: int | None = None) -> Run:
    """A run with everything."""
    nodes = [_node(node) for node in record.nodes]
    targets = None if record.targets is None else list(record.targets)
    result = {name: _with_urls(value) for name, value in record.result.items()}
    return Run(
        **_common(record), position=position, targets=targets, nodes=nodes, outputs=record.outputs, result=result
    )


def summary_of(record: Record) -> RunSummary:
    """A run in short."""
    return RunSummary(**_common(record))


def file_of(file: FileRecord) -> File:
    """A file with the address to get it at."""
    node, kind, subfolder, filename, form, nbytes = file
    return File(node=node, type="temp" if kind == "temp" else "output", subfolder=subfolder, filename=filename,
                format=form, bytes=nbytes, url=file_url(kind, subfolder, filename))  # fmt: skip


def file_url(kind: str, subfolder: str, filename: str) -> str:
    """Where a file is to be had."""
    return f"/v1/files/{kind}/" + "/".join(quote(part, safe="") for part in [*subfolder.split("/"), filename] if part)


@overload
def moment(seconds: float) -> datetime: ...
@overload
def moment(seconds: float | None) -> datetime | None: ...
def moment(seconds: float | None) -> datetime | None:
    """A moment from seconds since 1970."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def faults_of(problems: Iterable[Any]) -> Problems:
    """The problems of a workflow."""
    faults = [Fault.of(problem) for problem in problems]
    return Problems(valid=not faults, problems=faults)


def _common(record: Record) -> dict[str, Any]:
    begun, ended = record.started, record.finished
    return {
        "id": record.id, "status": record.status, "workflow": record.name, "priority": record.priority,
        "client": record.client, "owner": record.owner, "created": moment(record.created), "started": moment(begun),
        "finished": moment(ended), "waited": None if begun is None else max(0.0, begun - record.created),
        "seconds": None if begun is None or ended is None else max(0.0, ended - begun), "attempts": record.leases,
        "retry_of": record.retry_of, "error": record.error, "files": [file_of(file) for file in record.files],
        "url": f"/v1/runs/{quote(record.id, safe='')}",
    }  # fmt: skip


def _node(node: NodeRecord) -> Node:
    rest: Any = {**node, "bytes": node["nbytes"]}
    return Node.model_validate(rest)


def _with_urls(value: Any) -> Any:
    match value:
        case {"files": [*files]}:
            found: list[dict[str, Any]] = files
            return {
                "files": [
                    {**file, "url": file_url(file["type"], file["subfolder"], file["filename"])} for file in found
                ]
            }
        case _:
            return value
