"""What a request passes before its route: host, origin, token, scope, rate and size; and headers on every answer."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import math
import re
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from nodegraph.errors import StorageError
from server.auth import EVERYBODY, NOBODY, Caller, Tokens, needs_token
from server.limits import Buckets
from server.origins import address_of, is_allowed_host, is_allowed_origin, is_upgrade, own_origin, stranger
from server.problems import BY_STATUS, MEDIA, SORTS
from server.settings import ServerSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = logging.getLogger(__name__)

COOKIE = "nodegraph_token"
OPEN = ("/healthz", "/readyz", "/login", "/login/style.css", "/logout")  # paths that need no token
OPEN_BYTES = 64 << 10  # a request there is no larger
BURST = 10  # seconds' worth of requests that may come at once
WRONG_RATE, WRONG_BURST = 0.2, 10  # wrong tokens of one address, a second and at once

ROUTES: tuple[tuple[tuple[str, ...] | None, str, str], ...] = (
    (None, r"/internal/.*|/v1/tokens(/.*)?", "admin"),
    (("POST",), r"/free|/v1/system/free|/v1/queue/(pause|resume)", "admin"),
    (("DELETE",), r"/v1/runs", "admin"),  # of all there are
    (("POST",), r"/prompt|/interrupt|/queue|/upload/(image|mask)|/jobs/(.+/)?cancel", "run"),
    (("POST",), r"/v1/(runs|uploads)(/.*)?|/v1/workflows/.+/run|/v1/check|/v1/open", "run"),
    (("PUT", "DELETE"), r"/v1/drafts/.+", "run"),  # each caller's own
    (("GET", "HEAD", "OPTIONS"), r".*", "run"),
    (None, r".*", "edit"),
)
"""Methods (all of them: None), paths without `/api`, and the scope they need; the first line that fits holds."""

CONTENT = re.compile(r"/(view|userdata|v1/(outputs|files|uploads|runs))(/.*)?")
CONTENT_POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
)
"""For files that users brought or made: whatever is in them, nothing of it runs as a page of ours."""

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # not no-referrer: with it browsers send our own login form with `Origin: null`
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


PARTS = ("X-Content-Type-Options", "Cross-Origin-Resource-Policy")


def scope_of(method: str, path: str) -> str:
    """The scope that a request needs: `run`, `edit` or `admin`.

    Args:
        method: in capitals.
        path: of the request, or of its route with the names of its parts.
    """
    bare = _bare(path)
    return next(
        scope
        for methods, pattern, scope in ROUTES
        if (methods is None or method in methods) and re.fullmatch(pattern, bare, re.DOTALL)
    )


def policy(frontend: str, page: str = "", host: str = "") -> str:
    """The content-security policy of the server's own pages.

    Args:
        frontend: as in the settings. ComfyUI's has styles in its HTML, compiles code, and starts workers from blobs.
        page: HTML whose scripts may run though they are written into it, each by its digest.
        host: the server as the browser names it; older ones do not take a socket there for `'self'`.
    """
    sockets = f" ws://{host} wss://{host}" if host and not host.startswith("[") else ""  # CSP knows no IPv6
    always = "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    if frontend != "comfyui":
        return f"default-src 'self'; connect-src 'self'{sockets}; img-src 'self' blob: data:; {always}"
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    ]
    inline = "".join(f" 'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval' 'wasm-unsafe-eval' blob:{inline}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob: data:; "
        f"font-src 'self' data:; connect-src 'self'{sockets} blob: data:; worker-src 'self' blob:; {always}"
    )


def refusal(
    request: web.Request, sort: str, detail: str, fix: str, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An error in the form the client of this path reads: problem+json under `/v1`, else as ComfyUI has it.

    Args:
        request: what is refused.
        sort: one of `server.problems.SORTS`.
        detail: what is wrong, without a full stop.
        fix: what to do about it.
        headers: further headers of the answer.
    """
    status, title, _ = SORTS[sort]
    return _error(request, status, sort, title, detail, fix, headers)


class Guard:
    """The checks of one server.

    Args:
        settings: what is allowed.
        tokens: who may do what.
        clock: seconds that only grow.
        page: HTML of the frontend, where it has scripts in it.
    """

    def __init__(
        self, settings: ServerSettings, tokens: Tokens, *, clock: Callable[[], float] = time.monotonic, page: str = ""
    ) -> None:
        self.settings, self.tokens = settings, tokens
        self.needs_token = needs_token(settings)
        self._requests, self._wrong = Buckets(clock), Buckets(clock)

        @lru_cache(maxsize=256)
        def is_ours(host: str) -> bool:
            return is_allowed_host(host, settings)

        @lru_cache(maxsize=256)
        def policy_at(host: str) -> str:
            return policy(settings.frontend, page, host if is_ours(host) else "")

        self._is_ours, self._policy_at = is_ours, policy_at

    def install(self, app: web.Application) -> None:
        """Puts the checks before the routes of an application, inside of what it has in front of them already."""
        # Newer aiohttp asks for typed keys of requests, which the older ones we take do not have.
        warnings.filterwarnings("ignore", "It is recommended to use web.RequestKey", web.NotAppKeyWarning)
        app[GUARD] = self
        app.middlewares.extend(
            [self.in_words, self.check_host, self.check_origin, self.check_caller, self.check_limits]
        )
        app.on_response_prepare.append(self.add_headers)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Puts the security headers on an answer, where its route has not set others."""
        response.headers["Server"] = "nodegraph"
        is_part = path_of(request).startswith("/web/")  # of a page: what is for pages would only make it larger
        for name, value in HEADERS.items():
            if name in PARTS or not is_part:
                response.headers.setdefault(name, value)
        is_content = CONTENT.fullmatch(_bare(path_of(request))) is not None
        own = CONTENT_POLICY if is_content else self._policy_at(_host(request))
        if not is_part:
            response.headers.setdefault("Content-Security-Policy", own)
        origin = request.headers.get("Origin", "")
        if self.settings.allowed_origins:
            response.headers.add("Vary", "Origin")
        if is_allowed_origin(origin, self.settings) and self._is_ours(_host(request)):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Access-Control-Expose-Headers"] = (
                "ETag, Location, Retry-After, Content-Disposition, Link, Nodegraph-Run, Preference-Applied"
            )

    @web.middleware
    async def in_words(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Gives errors that no route put into words the form that the client reads."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400 or error.text != f"{error.status}: {error.reason}":
                raise
            sort = BY_STATUS.get(error.status, "malformed")
            what = f"{request.method} {request.path[:200]}: {error.reason}"
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            fix = f"use {allow['Allow']}" if allow else "see /v1/docs for what there is"
            return _error(request, error.status, sort, error.reason, what, fix, allow)
        except StorageError as error:
            detail, _, fix = str(error).rpartition("; ")
            return refusal(request, "storage", detail, fix)
        except (web.RequestPayloadError, HttpProcessingError):
            return refusal(
                request, "malformed", "the body is not what its Content-Encoding or Transfer-Encoding says",
                "send it plain",
            )  # fmt: skip

    @web.middleware
    async def check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses names that are not the server's own, against DNS rebinding."""
        host = _host(request)
        if self._is_ours(host) and request.raw_path.startswith(("/", "*")):
            return await handler(request)
        name = re.sub(r":\d+$", "", host)[:200]
        return refusal(
            request, "forbidden", f"host {host[:200]!r} is not a name of this server",
            f"if it is, start the server with --allowed-host {name or 'NAME'}",
        )  # fmt: skip

    @web.middleware
    async def check_origin(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what pages of other sites send, and answers the questions browsers ask before (CORS)."""
        origin = request.headers.get("Origin", "")
        found = stranger(request, self.settings)
        if found is not None:
            own = own_origin(request, self.settings)
            place = f"{own.scheme}://{_host(request)}" if own else "this server"
            return refusal(
                request, "forbidden", f"this was sent by a page of {found}; only pages of {place} may call this server",
                "if that page is yours, start the server with --allowed-origin and its origin; "
                "behind a proxy with TLS, with --proxied, and let the proxy pass the Host header on",
            )  # fmt: skip
        is_question = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_question or not is_allowed_origin(origin, self.settings):
            return await handler(request)
        answer = {
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "Content-Type"),
            "Access-Control-Max-Age": "600",
        }
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            answer["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=answer)

    @web.middleware
    async def check_caller(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Finds out who is calling (`request["caller"]`), and refuses those who may not."""
        if not self.needs_token:
            request["caller"] = EVERYBODY
            return await handler(request)
        if path_of(request) in OPEN:
            request["caller"] = NOBODY
            return await handler(request)
        secrets = _secrets(request)
        caller = await self.who(secrets)
        if caller is None:
            return self._unknown(request, is_wrong=bool(secrets))
        scope = scope_of(request.method, path_of(request))
        if not caller.may(scope):
            return refusal(
                request, "forbidden", f"token {caller.name!r} lacks the scope {scope!r}",
                f"use a token that has it: nodegraph token add NAME --scope {scope}",
            )  # fmt: skip
        request["caller"] = caller
        return await handler(request)

    @web.middleware
    async def check_limits(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what comes too often or is too large; routes see what may come as `request.client_max_size`."""
        caller: Caller = request["caller"]
        is_open = caller is NOBODY
        rate = self.settings.rate if caller.rate is None else caller.rate
        if 0 < rate < math.inf and path_of(request) != "/healthz":
            key = f"token {caller.name}" if caller.name else f"address {address_of(request, self.settings)}"
            wait = self._requests.take(key, rate=rate, burst=max(1.0, rate * BURST))
            if wait:
                return self.too_often(request, wait, f"more than {rate:g} requests a second")
        limit = self.settings.max_upload if caller.max_upload is None else caller.max_upload
        limit = min(limit, OPEN_BYTES) if is_open else limit
        if (request.content_length or 0) > limit:
            return self._too_large(request, limit)
        if request.can_read_body and request.client_max_size != limit and not is_upgrade(request):
            request = request.clone(client_max_size=limit)  # what reads the body then stops there
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return self._too_large(request, limit)

    async def who(self, secrets: list[str]) -> Caller | None:
        """The caller whose token one of these is."""
        for secret in secrets:
            caller = await self.tokens.find(secret)
            if caller is not None:
                return caller
        return None

    def wrong(self, request: web.Request) -> float:
        """Notes a wrong token -> 0, or the seconds that its address has to wait before it may try another."""
        address = address_of(request, self.settings)
        wait = self._wrong.take(address, rate=WRONG_RATE, burst=WRONG_BURST)
        if not wait:
            log.warning("a wrong token from %s", address)
        return wait

    def too_often(self, request: web.Request, wait: float, what: str) -> web.Response:
        """The answer 429."""
        seconds = max(1, math.ceil(wait))
        return refusal(
            request, "busy", what, f"wait for {seconds} s, as Retry-After says", headers={"Retry-After": str(seconds)}
        )

    def _unknown(self, request: web.Request, *, is_wrong: bool) -> web.Response:
        wait = self.wrong(request) if is_wrong else 0.0
        if wait:
            return self.too_often(request, wait, "too many wrong tokens")
        if request.method == "GET" and "text/html" in request.headers.get("Accept", "") and not is_upgrade(request):
            place = URL("/login").with_query(next=str(request.rel_url))
            return web.Response(status=303, headers={"Location": str(place), "Cache-Control": "no-store"})
        return refusal(
            request, "unauthorized", "the token is not known here" if is_wrong else "this server wants a token",
            "send one as `Authorization: Bearer ng_...`, or log in at /login; nodegraph token add makes one",
            headers={
                "WWW-Authenticate": 'Bearer realm="nodegraph"' + (', error="invalid_token"' if is_wrong else ""),
                "Cache-Control": "no-store",
            },
        )  # fmt: skip

    def _too_large(self, request: web.Request, limit: int) -> web.Response:
        return refusal(
            request, "too-large", f"the request has more than {limit:,} bytes", "send less, or a smaller file"
        )


GUARD: web.AppKey[Guard] = web.AppKey("guard", Guard)


def path_of(request: web.Request) -> str:
    """The path of a request's route, as it was declared; of the request itself where no route takes it.

    The router reads a path in its own way. What is decided by the route cannot be led past by spelling the path
    otherwise.
    """
    resource = request.match_info.route.resource
    return request.path if resource is None else resource.canonical


def _bare(path: str) -> str:
    return path.removeprefix("/api") if path.startswith("/api/") else path


def _host(request: web.Request) -> str:
    """The Host header; "" when there is none or more than one."""
    hosts = request.headers.getall("Host", [])
    return hosts[0] if len(hosts) == 1 else ""


def _secrets(request: web.Request) -> list[str]:
    """The tokens that came with a request: as bearer, as the password of HTTP Basic, as cookie."""
    found: list[str] = []
    for header in request.headers.getall("Authorization", []):
        kind, _, rest = header.partition(" ")
        if kind.lower() == "bearer":
            found.append(rest.strip())
        elif kind.lower() == "basic":
            try:
                pair = base64.b64decode(rest.strip(), validate=True).decode("utf-8", "replace")
            except (binascii.Error, ValueError):
                pair = ""
            found.append(pair.partition(":")[2])
    found.append(request.cookies.get(COOKIE, ""))
    return [secret for secret in found if secret]


def _error(
    request: web.Request, status: int, sort: str, title: str, detail: str, fix: str, headers: Mapping[str, str] | None
) -> web.Response:
    body: dict[str, Any]
    if (request.path + "/").startswith("/v1/"):
        body = {"type": f"/v1/docs#problem-{sort}", "title": title, "status": status, "detail": f"{detail}; {fix}",
                "fix": fix}  # fmt: skip
        media = MEDIA
    else:
        error: dict[str, Any] = {"type": sort.replace("-", "_"), "message": detail, "details": fix, "extra_info": {}}
        body, media = {"error": error, "node_errors": {}}, "application/json"
    return web.Response(status=status, text=json.dumps(body), content_type=media, headers=headers)
