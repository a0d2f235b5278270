"""The OpenAPI 3.1 document of the operations, from the models that check requests and make answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import nodegraph
from server.problems import BY_STATUS, MEDIA, SORTS, ProblemDocument
from server.v1.operation import Answer, Operation, path_of

TAGS: Mapping[str, str] = {
    "runs": "Submitting workflows, and what became of them.",
    "events": "What runs tell while they go, as server-sent events.",
    "queue": "The line of waiting runs.",
    "workflows": "The library, and workflows as functions of named inputs.",
    "drafts": "What is open in editors, saved or not; each caller has its own.",
    "catalog": "Node types at hand.",
    "models": "Models at hand.",
    "files": "Uploads and outputs.",
    "system": "The server itself.",
    "tokens": "Who may do what.",
}
REF = "#/components/schemas/{model}"
PLACES = {"path": "path", "query": "query", "headers": "header"}
RETRIES = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 0}}}


class Text(NamedTuple):
    """A document as it is sent, with the tag of its content."""

    body: bytes
    etag: str


@lru_cache(maxsize=4)
def text_of(operations: tuple[Operation, ...]) -> Text:
    """The document as JSON; the same for the same operations."""
    body = json.dumps(document_of(operations), ensure_ascii=False, separators=(",", ":")).encode()
    return Text(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"')


def document_of(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document as JSON values."""
    refs, schemas = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(path_of(one), {})[one.method.lower()] = _operation(one, refs)
    statuses = sorted({status for one in operations for status in one.problems})
    used = [tag for tag in TAGS if any(one.tag == tag for one in operations)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nodegraph", "version": nodegraph.__version__, "license": {"name": "Apache-2.0"},
            "description": "Runs workflows of a typed node graph. Errors are `application/problem+json`.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "tags": [{"name": tag, "description": TAGS[tag]} for tag in used],
        "paths": paths,
        "x-problems": {
            name: {"status": sort.status, "title": sort.title, "description": sort.doc} for name, sort in SORTS.items()
        },
        "components": {
            "schemas": schemas,
            "responses": {f"Problem{status}": _problem(status) for status in statuses},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token; needed where the server "
                           "listens beyond its own machine. Scopes: run, edit, admin; each has those before it."},
            },
        },
    }  # fmt: skip


class _Refs:
    """Schemas of models by how they are used: what is read and what is answered may differ."""

    def __init__(self, found: Mapping[Any, Any]) -> None:
        self._found = found

    def read(self, model: type[BaseModel]) -> Any:
        return self._found[model, "validation"]

    def answered(self, model: type[BaseModel]) -> Any:
        return self._found[model, "serialization"]


def _schemas(operations: Iterable[Operation]) -> tuple[_Refs, dict[str, Any]]:
    models: dict[tuple[Any, Any], None] = {(ProblemDocument, "serialization"): None}
    for one in operations:
        for model in (one.parts.get("body"), one.form):
            if model is not None:
                models[model, "validation"] = None
        for answer in one.answers.values():
            if answer.model is not None:
                models[answer.model, "serialization"] = None
    found, definitions = models_json_schema(list(models), ref_template=REF)
    schemas: dict[str, Any] = definitions.get("$defs", {})
    return _Refs(found), dict(sorted(schemas.items()))


def _operation(one: Operation, refs: _Refs) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": one.name, "tags": [one.tag], "summary": one.summary}
    if one.doc:
        found["description"] = one.doc
    found["x-scope"] = one.scope
    parameters = [each for part in PLACES if part in one.parts for each in _parameters(one.parts[part], PLACES[part])]
    if parameters:
        found["parameters"] = parameters
    if "body" in one.parts or one.form:
        found["requestBody"] = _body(one, refs)
    answers = {str(status): _answer(answer, refs) for status, answer in one.answers.items()}
    problems = {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in one.problems}
    found["responses"] = {**answers, **problems}
    return found


def _parameters(model: type[BaseModel], place: str) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    required = schema.get("required", ())
    found: list[dict[str, Any]] = []
    for name, item in schema.get("properties", {}).items():
        item = _plain(item)
        about = item.pop("description", None)
        row: dict[str, Any] = {"name": name, "in": place, "required": name in required}
        if about:
            row["description"] = about
        found.append({**row, "schema": item})
    return found


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's schema without null, which a parameter cannot be, and without the made-up title."""
    found = {name: value for name, value in item.items() if name != "title"}
    kinds = [kind for kind in found.pop("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        found = {**kinds[0], **found}
    elif kinds:
        found["anyOf"] = kinds
    if found.get("default", ...) is None:
        del found["default"]
    return found


def _body(one: Operation, refs: _Refs) -> dict[str, Any]:
    content: dict[str, Any] = {}
    model = one.parts.get("body")
    if model is not None:
        content["application/json"] = {"schema": refs.read(model)}
    if one.form is not None:
        content["multipart/form-data"] = {"schema": refs.read(one.form)}
    is_required = (
        one.form is not None if model is None else any(field.is_required() for field in model.model_fields.values())
    )
    return {"required": is_required, "content": content}


def _answer(answer: Answer, refs: _Refs) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.doc}
    if answer.headers:
        found["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    content: dict[str, Any] = {}
    if answer.model is not None:
        content["application/json"] = {"schema": refs.answered(answer.model)}
    for media in answer.media:
        # No schema for a stream of events: whether it is of the stream or of an event, 3.1 leaves open.
        content[media] = {"schema": {"type": "string"}} if media == "text/plain" else {}
    if content:
        found["content"] = content
    return found


def _problem(status: int) -> dict[str, Any]:
    names = [name for name, sort in SORTS.items() if sort.status == status]
    text = " ".join(f"`{name}`: {SORTS[name].title}. {SORTS[name].doc}" for name in names) or BY_STATUS[status]
    found: dict[str, Any] = {
        "description": text,
        "content": {MEDIA: {"schema": {"$ref": REF.format(model="ProblemDocument")}}},
    }
    if status == 429:
        found["headers"] = RETRIES
    return found
