"""Conditional requests: nobody replaces what they have not seen."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field

from server.problems import Refusal
from server.v1.models import ETAG
from server.v1.reading import Parameters


class ReadHeaders(Parameters):
    """What the client has."""

    none_match: str | None = Field(default=None, alias="If-None-Match", max_length=1000)


class SaveHeaders(Parameters):
    """What the client believes to be there."""

    match: Annotated[str | None, Field(alias="If-Match", max_length=200, pattern=ETAG)] = None
    none_match: Annotated[str | None, Field(alias="If-None-Match", max_length=200, pattern=ETAG)] = None


class DeleteHeaders(Parameters):
    """What the client believes to be there."""

    match: Annotated[str | None, Field(alias="If-Match", max_length=200, pattern=ETAG)] = None


def tag_of(text: bytes) -> str:
    """The ETag of a text."""
    return f'"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'


def compare(what: str, now: str | None, headers: SaveHeaders) -> None:
    """Refuses to replace what the client has not seen.

    Args:
        what: as errors name it: `workflow 'a'`.
        now: the ETag of what is there; None for nothing.
        headers: what the client believes to be there.

    Raises:
        Refusal: it is not as the client believes, or the client does not say.
    """
    match = headers.match and headers.match.removeprefix("W/")  # so a proxy that compresses answers marks it
    tag = {} if now is None else {"ETag": now}
    if headers.none_match is not None and now is not None and headers.none_match in ("*", now):
        raise Refusal(
            "stale", f"there is a {what} already; choose another name, or send its ETag in If-Match", headers=tag
        )
    if match is not None and now is None:
        raise Refusal("stale", f"there is no {what} any more; send no If-Match to make it")
    if match not in (None, "*", now):
        raise Refusal(
            "stale", f"{what} was changed meanwhile; read it again, merge, and send its new ETag", headers=tag
        )
    if match is None and now is not None:
        raise Refusal(
            "unconditional", f"there is a {what}; send the ETag you read in If-Match, or If-Match: *", headers=tag
        )
