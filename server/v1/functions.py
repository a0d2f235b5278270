"""Workflows as functions: named inputs in, a picture or JSON out, at once or later."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from aiohttp import web
from pydantic import ConfigDict, Field, ValidationError

from nodegraph import describe
from nodegraph.errors import FileProblem, Problem, did_you_mean
from nodegraph.spec import Input
from nodegraph.subgraph import Find
from nodegraph.workflow import Workflow, split_address
from server.bodies import Form, file_headers
from server.files import find
from server.pictures import Rendering, render
from server.problems import Fault, Refusal, in_words, misfits
from server.records import Record
from server.submit import submit
from server.v1.forms import form_of, keep_picture
from server.v1.models import FINISHED, PLAIN, IdempotencyKey, Priority, Run, WorkflowPath
from server.v1.operation import Answer, Call, Reply, operation
from server.v1.reading import Body, Parameters, json_of
from server.v1.runs import Submitted, record_of, submitted, view
from server.v1.submission import key_of, open_workflow

PATIENCE = 300.0  # seconds that a synchronous request waits for, where it does not say
LONGEST = 600.0
PICTURES = ("image/png", "image/webp", "image/jpeg")
Wanted = Literal["json", "image", "png", "webp", "jpeg"]
RUN_HEADERS = {"Nodegraph-Run": "id of the run", "Preference-Applied": "which of `Prefer` was followed"}
ENDED = "Nodegraph-Run"


class NamedRun(Body):
    """A call of a workflow."""

    inputs: dict[str, Any] = Field(
        default={}, description="values by name; a file by the name of an earlier upload",
        examples=[{"prompt": "a large red sphere"}],
    )  # fmt: skip
    priority: Priority = 0
    client: str = Field(default="", max_length=200, pattern=PLAIN, description="a name for whose run it is")


class NamedRunForm(Body):
    """A call of a workflow with files: one field more for each input that takes one, named like it."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": {"type": "string", "format": "binary"}})

    inputs: str = Field(default="{}", json_schema_extra={"contentMediaType": "application/json"},
                        description="values by name, as JSON")  # fmt: skip
    priority: str = Field(default="0", pattern=r"^-?[0-9]{1,4}$")
    client: str = Field(default="", max_length=200, pattern=PLAIN)


class CallHeaders(Parameters):
    """How it is to be answered."""

    key: IdempotencyKey = None
    prefer: Annotated[
        str | None,
        Field(alias="Prefer", max_length=200, pattern=r"^[ -~]*$",
              description="`respond-async`: answer 202 at once; `wait=30`: wait for so many seconds at most"),
    ] = None  # fmt: skip


class Preference(NamedTuple):
    """How long to wait; and the part of `Prefer` that says so."""

    seconds: float
    applied: str | None


@operation("POST", "/v1/workflows/{name}/run", tag="workflows", scope="run", problems=(404, 406, 409, 507),
           form=NamedRunForm, answers={
               200: Answer("The run is over: the run, or the first picture it made, as `Accept` asks.", Run,
                           media=PICTURES, headers=RUN_HEADERS),
               202: Answer("It is not over yet.", Submitted, headers={**RUN_HEADERS, "Location": "the run"}),
           })  # fmt: skip
async def run_workflow(
    call: Call, *, path: WorkflowPath, headers: CallHeaders, body: NamedRun | None
) -> web.StreamResponse | Reply:
    """Runs a workflow with named inputs and waits for the end.

    `Accept: image/png` (or webp, jpeg) is answered with the first declared picture itself. A form takes pictures for
    inputs beside the JSON. What takes longer than `Prefer: wait` says, or 300 s, is answered 202 and goes on.
    """
    workflow = await open_workflow(call, path.name)
    wanted = wanted_of(call.request.headers.getall("Accept", []))
    session = await call.service.desk.session()
    if wanted != "json" and workflow.outputs and not _shows(workflow, session.spec):
        raise Refusal(
            "not-acceptable", f"workflow {path.name!r} declares no picture; expected Accept: application/json"
        )
    if body is None:
        body, digest = await _of_form(call, workflow)
    else:
        digest = key_of(call, await call.request.read())
    ticket = await submit(
        call.service, workflow.with_inputs(body.inputs), owner=call.caller.name, client=body.client,
        priority=body.priority, key=headers.key or "", body=digest,
    )  # fmt: skip
    preference = preference_of(headers.prefer or "")
    more = {ENDED: ticket.id} | ({"Preference-Applied": preference.applied} if preference.applied else {})
    if preference.seconds:
        await call.service.dispatcher.finished(ticket.id, preference.seconds)
    record = await record_of(call, ticket.id)
    if record.status not in FINISHED or preference.applied == "respond-async":
        reply = submitted(ticket)
        return reply._replace(headers={**reply.headers, **more})
    _succeeded(record)
    if wanted == "json":
        return Reply(await view(call, record), 200, more)
    return await _picture(call, workflow, record, wanted, more)


def wanted_of(accept: list[str]) -> Wanted:
    """What `Accept` asks for: JSON, a picture of a format, or `image` for a picture of any."""
    kinds: list[tuple[float, int, str]] = []
    for place, item in enumerate(part for header in accept for part in header.split(",")):
        media, _, rest = item.strip().lower().partition(";")
        weight = re.search(r"(?:^|;)\s*q=([0-9](?:\.[0-9]{0,3})?)\s*(?:;|$)", rest)
        kinds.append((-float(weight.group(1)) if weight else -1.0, place, media.strip()))
    for weight, _, media in sorted(kinds):
        if not weight:
            continue
        if media in ("application/json", "application/*", "*/*"):
            return "json"
        if media in PICTURES or media == "image/*":
            kind: Any = media.partition("/")[2].replace("*", "image")
            return kind
    return "json"


def preference_of(prefer: str) -> Preference:
    """How long `Prefer` wants an answer waited for; what it says that is not known is left aside (RFC 7240)."""
    items = [item.strip().lower().replace(" ", "") for item in re.split(r"[,;]", prefer)]
    if "respond-async" in items:
        return Preference(0.0, "respond-async")
    for item in items:
        if match := re.fullmatch(r'wait="?([0-9]{1,9})"?', item):
            seconds = min(float(match.group(1)), LONGEST)
            return Preference(seconds, f"wait={seconds:.0f}")
    return Preference(PATIENCE, None)


async def _of_form(call: Call, workflow: Workflow) -> tuple[NamedRun, str]:
    """A form as a call: its pictures are kept in the input folder -> (the call, the digest of the form)."""
    session = await call.service.desk.session()
    declared = describe.declared_inputs(workflow, session.spec)
    async with form_of(call) as form:
        named = _fields(form)
        _check_files(form, declared)
        values = dict(named.inputs)
        for name, upload in form.files.items():
            stored, _ = await keep_picture(call, upload)
            values[name] = "/".join(filter(None, [stored.subfolder, stored.name]))
        parts = [*(f"{name}={form.fields[name]}" for name in sorted(form.fields))]
        parts += [f"{name}={form.files[name].draft.digest}" for name in sorted(form.files)]
    return named.model_copy(update={"inputs": values}), key_of(call, *(part.encode() for part in parts))


def _fields(form: Form) -> NamedRun:
    """The fields of a form that are no files.

    Raises:
        Refusal: one is not known, or is not what it should be.
    """
    found: dict[str, Any] = dict(form.fields)
    if "inputs" in found:
        found["inputs"] = json_of(found["inputs"].encode())
    if re.fullmatch(r"-?[0-9]{1,4}", found.get("priority", "")):
        found["priority"] = int(found["priority"])
    try:
        return NamedRun.model_validate(found)
    except ValidationError as error:
        faults = misfits(error, "form", NamedRun.model_fields)
        raise Refusal("invalid", in_words(faults), problems=faults) from None


def _check_files(form: Form, declared: Mapping[str, Input | None]) -> None:
    """Refuses files for inputs that take none, before any is kept."""
    takers = [name for name, item in declared.items() if item is not None and item.file and item.file.kind == "input"]
    faults = [
        Fault(where=f"form.{name}", what="no input of this name takes a picture", input=name,
              expected=", ".join(takers) or "no files", fix=did_you_mean(name, takers))
        for name in form.files if name not in takers
    ]  # fmt: skip
    if faults:
        raise Refusal("invalid", in_words(faults), problems=faults)


def _shows(workflow: Workflow, find_spec: Find) -> bool:
    """True when a declared output is a picture, or may be."""
    for place in workflow.outputs.values():
        node, name = split_address(place)
        spec = find_spec(workflow.nodes[node].class_type)
        slot = None if spec is None else int(name) if name.isdecimal() else spec.slots.get(name)
        if spec is None or slot is None or slot >= len(spec.outputs) or spec.outputs[slot].port in ("IMAGE", "MASK"):
            return True
    return False


def _succeeded(record: Record) -> None:
    """Raises Refusal unless the run did."""
    if record.status == "cancelled":
        raise Refusal("run-cancelled", f"run {record.id} was cancelled", run=record.id, headers={ENDED: record.id})
    if record.status == "error":
        error = record.error or {}
        problem = Problem(str(error.get("message", "it failed")), error.get("node"), error.get("class_type"))
        fault = Fault.of(problem).model_copy(update={"type": "run_failed"})
        raise Refusal("run-failed", str(problem), problems=[fault], run=record.id, headers={ENDED: record.id})


def _files(workflow: Workflow, record: Record) -> Iterator[tuple[str, str, str]]:
    """The pictures of a run as (type, subfolder, filename): declared ones first."""
    for name in workflow.outputs:
        value = record.result.get(name)
        for file in value.get("files", ()) if isinstance(value, dict) else ():  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            yield file["type"], file["subfolder"], file["filename"]
    for file in sorted(record.files, key=lambda file: file.type):
        yield file.type, file.subfolder, file.filename


async def _picture(
    call: Call, workflow: Workflow, record: Record, wanted: Wanted, headers: Mapping[str, str]
) -> web.Response:
    """The first picture of a run, in the format that is wanted."""
    desk, limit = call.service.desk, call.service.settings.max_pixels
    for kind, subfolder, filename in _files(workflow, record):
        with contextlib.suppress(FileProblem):
            place = await desk.do(find, desk.folders, filename, kind, subfolder)
            own = place.suffix.lower().removeprefix(".").replace("jpg", "jpeg")
            form: Any = (own if own in ("png", "webp", "jpeg") else "png") if wanted == "image" else wanted
            body = await (desk.do(place.read_bytes) if form == own else desk.do(render, place, Rendering(form), limit))
            named = file_headers(f"{place.stem}.{form}")
            return web.Response(body=body, content_type=f"image/{form}", headers={**named, **headers})
    detail = f"run {record.id} made no picture; expected Accept: application/json"
    raise Refusal("not-acceptable", detail, run=record.id, headers={ENDED: record.id})
