"""The server itself: its workers and memory, and who may do what."""

from __future__ import annotations

import os
import platform
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

import nodegraph
from server.auth import SCOPES, needs_token
from server.problems import Refusal, View
from server.v1.models import moment
from server.v1.operation import Answer, Call, Reply, operation
from server.v1.reading import Body, Parameters

Scope = Literal["run", "edit", "admin"]
TOKEN = r"^[A-Za-z0-9][A-Za-z0-9._@-]*$"
TokenName = Annotated[str, Field(min_length=1, max_length=64, pattern=TOKEN)]


class Worker(View):
    """A worker process: one for each device."""

    name: str
    device: str
    state: str = Field(description="`starting`, `idle`, `busy` or `dead`")
    run: str | None = Field(description="the run it is at")
    deaths: int = Field(description="how often its process died")
    memory: dict[str, Any] = Field(description="its last report of what it holds, in bytes")


class System(View):
    """The server."""

    version: str
    python: str
    platform: str
    nodes: int = Field(description="node types at hand")
    memory: int = Field(description="bytes the server process holds")
    max_upload: int = Field(description="bytes of one request")
    max_pixels: int = Field(description="pixels of one picture")
    workers: list[Worker]


class Me(View):
    """Who is asking."""

    name: str = Field(description="of the token; empty without one")
    scope: Scope = Field(description="the widest it has")
    needs_token: bool = Field(description="true where every client must show a token")


class Freed(View):
    """Who was asked."""

    workers: int


class TokenView(View):
    """A token, without its secret."""

    name: str
    scopes: list[Scope]
    rate: float | None = Field(description="requests a second, where it has a limit of its own")
    max_upload: int | None = Field(description="bytes of one request, where it has a limit of its own")
    created: AwareDatetime
    used: AwareDatetime | None


class TokenList(View):
    """The tokens, by name."""

    tokens: list[TokenView]


class NewToken(Body):
    """A token to be made."""

    name: TokenName
    scopes: list[Scope] = Field(
        min_length=1, max_length=3, description="each contains those before it: run, edit, admin"
    )
    rate: float | None = Field(default=None, gt=0, le=1e6, description="requests a second")
    max_upload: int | None = Field(default=None, ge=1, le=1 << 40, description="bytes of one request")


class Secret(View):
    """A new token; its secret is not shown again."""

    name: str
    secret: str


class TokenPath(Parameters):
    """A token."""

    name: TokenName


@operation("GET", "/v1/system", tag="system", scope="run", answers={200: Answer("The server.", System)})
async def get_system(call: Call) -> System:
    """Tells the version, the workers and what they hold."""
    service = call.service
    registry = await service.desk.registry()
    workers = [
        Worker(name=each.name, device=each.device, state=each.state, run=each.run, deaths=each.deaths, memory=each.beat)
        for each in service.dispatcher.workers()
    ]
    return System(
        version=nodegraph.__version__, python=platform.python_version(), platform=platform.system(),
        nodes=len(registry), memory=await service.desk.do(_memory), max_upload=service.settings.max_upload,
        max_pixels=service.settings.max_pixels, workers=workers,
    )  # fmt: skip


@operation("GET", "/v1/me", tag="system", scope="run", answers={200: Answer("The caller.", Me)})
async def get_me(call: Call) -> Me:
    """Tells whose token the request came with, and what it may do."""
    widest: Any = next(scope for scope in reversed(SCOPES) if call.caller.may(scope))
    return Me(name=call.caller.name, scope=widest, needs_token=needs_token(call.service.settings))


@operation("POST", "/v1/system/free", tag="system", scope="admin", answers={200: Answer("They were asked.", Freed)})
async def free_memory(call: Call) -> Freed:
    """Has every worker let go of models and cached values that nothing needs, after the run it is at."""
    await call.service.dispatcher.free()
    return Freed(workers=len(call.service.dispatcher.workers()))


@operation("GET", "/v1/tokens", tag="tokens", scope="admin", answers={200: Answer("The tokens.", TokenList)})
async def list_tokens(call: Call) -> TokenList:
    """Lists the tokens, without their secrets."""
    found = [
        TokenView(name=token.name, scopes=_scopes(token.scopes), rate=token.rate, max_upload=token.max_upload,
                  created=moment(token.created), used=moment(token.used))
        for token in await call.service.tokens.list()
    ]  # fmt: skip
    return TokenList(tokens=found)


@operation("POST", "/v1/tokens", tag="tokens", scope="admin", problems=(409, 507),
           answers={201: Answer("The token is made; this is the only time its secret is shown.", Secret)})  # fmt: skip
async def create_token(call: Call, *, body: NewToken) -> Reply:
    """Makes a token."""
    tokens = call.service.tokens
    if any(token.name == body.name for token in await tokens.list()):
        raise Refusal("conflict", f"token {body.name!r}: there is one of that name; take another, or delete it first")
    secret = await tokens.create(body.name, body.scopes, body.rate, body.max_upload)
    return Reply(Secret(name=body.name, secret=secret), 201, {"Cache-Control": "no-store"})


@operation("DELETE", "/v1/tokens/{name}", tag="tokens", scope="admin", problems=(404, 507),
           answers={204: Answer("It is no longer known.")})  # fmt: skip
async def delete_token(call: Call, *, path: TokenPath) -> Reply:
    """Takes a token away."""
    if not await call.service.tokens.revoke(path.name):
        raise Refusal("not-found", f"there is no token {path.name!r}; GET /v1/tokens lists them")
    return Reply(None, 204)


def _memory() -> int:
    import psutil

    return psutil.Process(os.getpid()).memory_info().rss


def _scopes(names: Any) -> list[Any]:
    return list(names)
