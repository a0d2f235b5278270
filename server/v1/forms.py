"""Multipart forms: read to drafts on disk, and pictures of them kept in the input folder."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from nodegraph.errors import FileProblem
from server.bodies import Form, Upload, read_form
from server.files import BadName, Clash, Stored, Taken, TooLarge, keep, place_of
from server.pictures import Measures, check_picture
from server.problems import Refusal
from server.v1.operation import Call


@contextlib.asynccontextmanager
async def form_of(call: Call, most: int | None = None) -> AsyncGenerator[Form]:
    """The form of a request; its files go at the end unless they were kept.

    Args:
        call: the request.
        most: bytes that are taken, where that is less than the caller may send.

    Raises:
        Refusal: it is malformed.
        TooLarge: it has more bytes than the caller may send.
        StorageError: the disk is full or cannot be written.
    """
    desk, limit = call.service.desk, min(call.request.client_max_size, most or 1 << 62)
    async with contextlib.AsyncExitStack() as stack:
        try:
            folder = desk.folders.roots("input")[0]
            form = await stack.enter_async_context(read_form(call.request, desk.do, folder, limit))
        except (TooLarge, BadName, Taken):
            raise
        except FileProblem as error:
            raise Refusal("malformed", str(error)) from None
        yield form


async def keep_picture(
    call: Call, upload: Upload, subfolder: str = "", clash: Clash = "number"
) -> tuple[Stored, Measures]:
    """Puts a picture of a form into the input folder.

    Raises:
        NotAPicture, TooLarge, BadName, Taken, StorageError: see `check_picture` and `keep`.
    """
    desk, place = call.service.desk, place_of(upload.name, "input", subfolder)
    measures = await desk.do(check_picture, upload.draft.path, call.service.settings.max_pixels, repr(upload.name))
    return await desk.do(keep, desk.folders, upload.draft, place, clash), measures
