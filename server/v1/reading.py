"""Requests read with pydantic models: path, query, headers and body. Whatever does not fit is told by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_origin

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from nodegraph.errors import WorkflowError
from nodegraph.workflow import parsed
from server.problems import Refusal, in_words, misfits
from server.service import service_of

M = TypeVar("M", bound=BaseModel)
LARGE = 1 << 15  # bytes from which a body is read off the event loop


class Parameters(BaseModel):
    """Base of what a path, a query or headers hold: texts, read as what the fields are."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


class Body(BaseModel):
    """Base of JSON bodies: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Nothing(Parameters):
    """A query without parameters."""


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise ValueError("expected true or false")
        return value == "true"
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII):
        raise ValueError("expected a whole number")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,2})?", value):
        raise ValueError("expected a number")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
WHOLE = BeforeValidator(_whole)  # after the limits, so that these are in the schema
NUMBER = BeforeValidator(_number)


def read_path(request: web.Request, model: type[M]) -> M:
    """The parameters in the path.

    Raises:
        Refusal: one does not fit.
    """
    return _checked(model, dict(request.match_info), "path")


def read_query(request: web.Request, model: type[M] | None) -> M | Nothing:
    """The parameters in the query; one that is a list may be repeated.

    Raises:
        Refusal: one is not known, does not fit, or is given twice.
    """
    if not request.query_string:
        return _checked(model or Nothing, {}, "query")
    found: dict[str, Any] = {}
    fields = model.model_fields if model else {}
    lists = {name for name, field in fields.items() if get_origin(field.annotation) is list}
    for name in request.query:
        values = request.query.getall(name)
        if len(values) > 1 and name not in lists and name in fields:
            raise Refusal("invalid", f"query.{name}: it is given {len(values)} times; expected once")
        found[name] = values if name in lists else values[0]
    return _checked(model or Nothing, found, "query")


def read_headers(request: web.Request, model: type[M]) -> M:
    """The headers a model names; others are left alone.

    Raises:
        Refusal: one does not fit.
    """
    names = [field.alias or name for name, field in model.model_fields.items()]
    found = {name: request.headers[name] for name in names if name in request.headers}
    return _checked(model, found, "header")


async def read_body(request: web.Request, model: type[M] | None, takes_form: bool) -> M | None:
    """The body as JSON; None for a form, which is left to be read.

    Raises:
        Refusal: it is not JSON, has another content type, or does not fit.
    """
    kind = request.content_type
    if kind == "multipart/form-data" and takes_form:
        return None
    is_json = kind == "application/json" or kind.endswith("+json")
    if model is None or (not is_json and request.can_read_body):
        wanted = " or ".join(["application/json"] * (model is not None) + ["multipart/form-data"] * takes_form)
        raise Refusal("media-type", f"the content type {kind!r} is not read here; expected {wanted}")
    text = await request.read()
    if not text:
        return _checked(model, {}, "body")
    if len(text) < LARGE:
        return body_of(text, model)
    return await service_of(request).desk.do(body_of, text, model)


def body_of(text: bytes, model: type[M]) -> M:
    """A JSON text as a model.

    Raises:
        Refusal: it is not JSON, or does not fit.
    """
    return _checked(model, json_of(text), "body")


def json_of(text: bytes) -> Any:
    """The values of a JSON text.

    Raises:
        Refusal: it is not JSON.
    """
    try:
        return parsed(text)
    except WorkflowError as error:
        raise Refusal("malformed", "body: " + "; ".join(problem.what for problem in error.problems)) from None


def _checked(model: type[M], found: Mapping[str, Any] | Any, where: str) -> M:
    try:
        return model.model_validate(found)
    except ValidationError as error:
        names = [field.alias or name for name, field in model.model_fields.items()]
        faults = misfits(error, where, names)
        raise Refusal("invalid", in_words(faults), problems=faults) from None
