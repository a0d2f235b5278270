"""Runs: submitted, looked at, waited for, cancelled, repeated, moved and forgotten; and the queue they wait in."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import ConfigDict, Field, RootModel, model_validator

from nodegraph.errors import FileProblem, StorageError
from nodegraph.files import Folders
from server.files import find
from server.problems import Refusal, View
from server.records import FileRecord, Record, Ticket
from server.submit import retry, submit
from server.trace import chrome_trace
from server.v1.models import (
    FINISHED,
    PLAIN,
    KeyHeaders,
    Priority,
    Run,
    RunList,
    RunPath,
    RunStatus,
    RunSummary,
    Submission,
    run_of,
    summary_of,
)  # fmt: skip
from server.v1.operation import Answer, Call, Reply, operation
from server.v1.reading import NUMBER, WHOLE, Body, Flag, Parameters
from server.v1.submission import key_of, workflow_of

PAGE = 500
LOCATION = {"Location": "the run", "Nodegraph-Run": "id of the run"}


class Submitted(View):
    """A run that is on disk, in the queue."""

    id: str
    is_new: bool = Field(description="false when its idempotency key had come before")
    url: str
    events: str = Field(description="server-sent events of it")
    wait: str = Field(description="answers when it is over")


class RunsQuery(Parameters):
    """Which runs."""

    status: list[RunStatus] = Field(default=[], max_length=5, description="only these; may be repeated")
    search: str = Field(default="", max_length=200, pattern=PLAIN, description="words, all of which occur in it")
    workflow: str = Field(default="", max_length=200, pattern=PLAIN, description="only runs of the workflow so named")
    client: str = Field(default="", max_length=200, pattern=PLAIN, description="only runs of this client")
    order: Literal["newest", "turn"] = Field(
        default="newest", description="turn: what runs, then what waits as it goes next; for those two statuses"
    )
    limit: Annotated[int, Field(ge=1, le=PAGE), WHOLE] = 50
    cursor: str | None = Field(default=None, pattern=r"^[0-9]{1,18}$", description="`next` of the page before")


class WaitQuery(Parameters):
    """How long to wait."""

    timeout: Annotated[float, Field(ge=0, le=600), NUMBER] = Field(default=60.0, description="seconds")


class Move(Body):
    """Where a run goes in the queue; at least one of the two."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    priority: Priority | None = None
    position: int | None = Field(
        default=None, ge=0, le=1_000_000, description="how many runs of its priority go before it"
    )

    @model_validator(mode="after")
    def _moves(self) -> Move:
        if not self.model_fields_set:
            raise ValueError("expected priority, position or both")
        return self


class DeleteQuery(Parameters):
    """Whether files go with their runs."""

    files: Flag = Field(default=False, description="also delete the files that no other run has")


class DeleteRunsQuery(DeleteQuery):
    """Which runs are forgotten."""

    status: list[RunStatus] = Field(default=[], max_length=5, description="only these; all finished ones by default")


class Deleted(View):
    """What went."""

    runs: int
    files: int


class DocumentView(RootModel[dict[str, Any]]):
    """A workflow: our document, or ComfyUI's API graph where that is all there is to it."""

    model_config = ConfigDict(defer_build=True)


class TraceView(RootModel[dict[str, Any]]):
    """A trace: its events under `traceEvents`, times in microseconds."""

    model_config = ConfigDict(defer_build=True)


@operation("POST", "/v1/runs", tag="runs", scope="run", problems=(404, 409, 507),
           answers={202: Answer("It is on disk, in the queue.", Submitted, headers=LOCATION)})  # fmt: skip
async def submit_run(call: Call, *, headers: KeyHeaders, body: Submission) -> Reply:
    """Submits a workflow.

    It is checked first: every problem is told at once, and nothing unsound is queued.
    """
    workflow = await workflow_of(call, body.workflow, body.inputs)
    digest = key_of(call, await call.request.read())
    ticket = await submit(
        call.service, workflow, owner=call.caller.name, client=body.client, priority=body.priority,
        targets=body.targets, key=headers.key or "", body=digest,
    )  # fmt: skip
    return submitted(ticket)


def submitted(ticket: Ticket) -> Reply:
    """The answer to a submission."""
    url = f"/v1/runs/{quote(ticket.id, safe='')}"
    model = Submitted(id=ticket.id, is_new=ticket.is_new, url=url, events=f"{url}/events", wait=f"{url}/wait")
    return Reply(model, 202, {"Location": url, "Nodegraph-Run": ticket.id})


@operation("GET", "/v1/runs", tag="runs", scope="run", answers={200: Answer("A page of runs.", RunList)})
async def list_runs(call: Call, *, query: RunsQuery) -> RunList:
    """Lists runs, waiting ones and those of the history, the newest first, or what waits in the order of its turn."""
    page = await call.service.runs.page(
        statuses=query.status, search=query.search, client=query.client, name=query.workflow, limit=query.limit,
        after=query.cursor, is_by_turn=query.order == "turn",
    )  # fmt: skip
    return RunList(runs=[summary_of(record) for record in page.records], total=page.total, next=page.next)


@operation("GET", "/v1/runs/{id}", tag="runs", scope="run", problems=(404,), answers={200: Answer("The run.", Run)})
async def get_run(call: Call, *, path: RunPath) -> Run:
    """Tells all about a run: where it stands, its nodes and why they ran, its outputs and files, its error."""
    return await view(call, await record_of(call, path.id))


@operation("GET", "/v1/runs/{id}/workflow", tag="runs", scope="run", problems=(404,),
           answers={200: Answer("The workflow as it was submitted.", DocumentView)})  # fmt: skip
async def get_run_workflow(call: Call, *, path: RunPath) -> DocumentView:
    """Gives the workflow of a run, with the values it ran with."""
    record = await record_of(call, path.id)
    return await call.service.desk.do(lambda: DocumentView(json.loads(record.document or record.graph)))


@operation("GET", "/v1/runs/{id}/trace", tag="runs", scope="run", problems=(404,),
           answers={200: Answer("A trace, for chrome://tracing or ui.perfetto.dev.", TraceView)})  # fmt: skip
async def get_run_trace(call: Call, *, path: RunPath) -> TraceView:
    """Gives where a run's time went, in Chrome's Trace Event Format."""
    record = await record_of(call, path.id)
    if record.status == "running":
        record = replace(record, nodes=call.service.dispatcher.nodes(record.id))
    registry = await call.service.desk.registry()
    lanes = {spec.name: spec.lane for spec in registry}
    return await call.service.desk.do(lambda: TraceView(chrome_trace(record, lanes)))


@operation("GET", "/v1/runs/{id}/wait", tag="runs", scope="run", problems=(404,),
           answers={200: Answer("It is over.", Run), 202: Answer("It is not over yet.", Run)})  # fmt: skip
async def wait_for_run(call: Call, *, path: RunPath, query: WaitQuery) -> Reply:
    """Waits for the end of a run, up to `timeout` seconds."""
    await record_of(call, path.id)
    await call.service.dispatcher.finished(path.id, query.timeout)
    record = await record_of(call, path.id)
    return Reply(await view(call, record), 200 if record.status in FINISHED else 202)


@operation("POST", "/v1/runs/{id}/cancel", tag="runs", scope="run", problems=(404, 507),
           answers={200: Answer("The run as it is now.", RunSummary)})  # fmt: skip
async def cancel_run(call: Call, *, path: RunPath) -> RunSummary:
    """Cancels a run.

    One that waits is cancelled at once. One that runs is told to stop and is `running` until it has. One that is over
    stays as it is. Others' runs take the scope `edit`.
    """
    own(call, await record_of(call, path.id))
    await call.service.dispatcher.cancel(path.id)
    return summary_of(await record_of(call, path.id))


@operation("POST", "/v1/runs/{id}/retry", tag="runs", scope="run", problems=(404, 409, 507),
           answers={202: Answer("A new run of the same workflow is queued.", Submitted,
                                headers=LOCATION)})  # fmt: skip
async def retry_run(call: Call, *, path: RunPath) -> Reply:
    """Runs a finished run's workflow again, as a new run; what is cached is not made again."""
    record = await record_of(call, path.id)
    ticket = await retry(call.service, path.id, call.caller.name)
    if ticket is None:
        raise Refusal("conflict", f"run {path.id} is {record.status}; expected one that is over", run=path.id)
    return submitted(ticket)


@operation("PATCH", "/v1/runs/{id}", tag="runs", scope="edit", problems=(404, 409, 507),
           answers={200: Answer("The run as it is now.", Run)})  # fmt: skip
async def move_run(call: Call, *, path: RunPath, body: Move) -> Run:
    """Moves a waiting run: to another priority, another place among those of its priority, or both."""
    record = await record_of(call, path.id)
    if not await call.service.runs.move(path.id, priority=body.priority, position=body.position):
        raise Refusal(
            "conflict", f"run {path.id} is {record.status}; only one that is queued can be moved", run=path.id
        )
    call.service.feed.notify("QueueChanged")
    return await view(call, await record_of(call, path.id))


@operation("DELETE", "/v1/runs/{id}", tag="runs", scope="edit", problems=(404, 409, 507),
           answers={200: Answer("It is forgotten.", Deleted)})  # fmt: skip
async def delete_run(call: Call, *, path: RunPath, query: DeleteQuery) -> Deleted:
    """Forgets a finished run, on request with the files that no other run has."""
    record = await record_of(call, path.id)
    if record.status not in FINISHED:
        raise Refusal("conflict", f"run {path.id} is {record.status}; cancel it first", run=path.id)
    return await _forget(call, [path.id], with_files=query.files)


@operation("DELETE", "/v1/runs", tag="runs", scope="admin", problems=(507,),
           answers={200: Answer("They are forgotten.", Deleted)})  # fmt: skip
async def delete_runs(call: Call, *, query: DeleteRunsQuery) -> Deleted:
    """Forgets finished runs: all, or those of some statuses. What waits or runs stays."""
    wanted = [status for status in query.status or FINISHED if status in FINISHED]
    found: list[str] = []
    cursor: str | None = None
    while wanted:
        page = await call.service.runs.page(statuses=wanted, limit=PAGE, after=cursor)
        found += [record.id for record in page.records]
        cursor = page.next
        if cursor is None:
            break
    return await _forget(call, found, with_files=query.files)


async def record_of(call: Call, run: str) -> Record:
    """A run as stored.

    Raises:
        Refusal: there is none.
    """
    record = await call.service.runs.get(run)
    if record is None:
        raise Refusal("not-found", f"there is no run {run!r}; GET /v1/runs lists them", run=run)
    return record


async def view(call: Call, record: Record) -> Run:
    """A run with everything, and its place in the queue."""
    position = await call.service.runs.position(record.id) if record.status == "queued" else None
    if record.status == "running":
        record = replace(record, nodes=call.service.dispatcher.nodes(record.id))
    return await call.service.desk.do(run_of, record, position)


def own(call: Call, record: Record) -> None:
    """Checks that the caller may stop a run.

    Raises:
        Refusal: it is another's.
    """
    if record.owner != call.caller.name and not call.caller.may("edit"):
        raise Refusal(
            "forbidden", f"run {record.id} is another's; expected a token with the scope 'edit'", run=record.id
        )


async def _forget(call: Call, wanted: list[str], *, with_files: bool) -> Deleted:
    runs, desk = call.service.runs, call.service.desk
    if not wanted:
        return Deleted(runs=0, files=0)
    files = await runs.delete(wanted)
    call.service.feed.notify("QueueChanged")
    doomed = [file for file in dict.fromkeys(files) if with_files and not await runs.is_used(file)]
    number = await desk.do(_remove, desk.folders, doomed) if doomed else 0
    return Deleted(runs=len(wanted), files=number)


def _remove(folders: Folders, files: list[FileRecord]) -> int:
    """Deletes files -> how many were there."""
    count = 0
    for file in files:
        try:
            find(folders, file.filename, file.type, file.subfolder).unlink()
            count += 1
        except (FileProblem, FileNotFoundError):
            continue
        except OSError as error:
            raise StorageError(f"{file.filename} cannot be deleted: {error.strerror or error}") from error
    return count
