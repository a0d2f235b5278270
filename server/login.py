"""The login page: it takes a token and leaves it with the browser, as a cookie that no script can read."""

from __future__ import annotations

import html
import math
import re
from urllib.parse import parse_qs

from aiohttp import web

from server.guard import COOKIE, GUARD, Guard, policy
from server.origins import scheme_of

COOKIE_SECONDS = 30 * 24 * 3600
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in to nodegraph</title>
<link rel="stylesheet" href="/login/style.css">
</head>
<body>
<main>
<h1>nodegraph</h1>
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" spellcheck="false" required autofocus>
<input name="next" type="hidden" value="{next}">
{message}<button>Log in</button>
</form>
<p>The server printed the first token when it started; <code>nodegraph token add NAME</code> makes more.</p>
</main>
</body>
</html>
"""
STYLE = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { display: grid; place-items: center; min-height: 100vh; margin: 0; }
main { width: min(22rem, 90vw); }
form { display: grid; gap: 0.5rem; }
input, button { font: inherit; padding: 0.5rem; }
.problem { margin: 0; color: #c62828; }
"""


def routes() -> list[web.RouteDef]:
    """The login page, what it sends, and the way out."""
    return [
        web.get("/login", show),
        web.get("/login/style.css", style),
        web.post("/login", log_in),
        web.post("/logout", log_out),
    ]


async def show(request: web.Request) -> web.Response:
    """The page; where no token is needed, the way on."""
    place = onward(request.query.get("next", ""))
    return _page(place) if request.config_dict[GUARD].needs_token else _go(place)


async def style(_: web.Request) -> web.Response:
    """The style sheet of the page."""
    return web.Response(text=STYLE, content_type="text/css")


async def log_in(request: web.Request) -> web.Response:
    """Takes the form: with a token that is known the browser gets its cookie and goes on."""
    guard = request.config_dict[GUARD]
    fields = await _fields(request)
    place, secret = onward(fields.get("next", "")), fields.get("token", "").strip()
    if await guard.who([secret]) is not None:
        answer = _go(place)
        answer.set_cookie(
            COOKIE,
            secret,
            max_age=COOKIE_SECONDS,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=_is_secure(request, guard),
        )
        return answer
    wait = guard.wrong(request)
    if wait:
        seconds = math.ceil(wait)
        answer = _page(place, f"Too many wrong tokens; wait for {seconds} s.", status=429)
        answer.headers["Retry-After"] = str(seconds)
        return answer
    return _page(place, "This token is not known here.", status=401)


async def log_out(request: web.Request) -> web.Response:
    """Takes the cookie away."""
    answer = _go("/login")
    secure = _is_secure(request, request.config_dict[GUARD])
    answer.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=secure)
    return answer


def onward(text: str) -> str:
    r"""Where to go after the login: a path of this server, or `/` for whatever else was asked.

    Browsers read `//host`, `/\host`, and either with tabs or line breaks between, as addresses of other servers.
    """
    is_path = re.fullmatch(r"/(?![/\\])[^\\\x00-\x20\x7f-\x9f]*", text) is not None
    is_loop = re.match(r"/(login|logout)\b", text) is not None
    return text if is_path and not is_loop and text.isascii() else "/"


async def _fields(request: web.Request) -> dict[str, str]:
    """The fields of a form, the last of each name; none of what is no form."""
    if request.content_type != "application/x-www-form-urlencoded":
        return {}
    body = await request.read()
    try:
        return {
            name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace"), max_num_fields=10).items()
        }
    except ValueError:
        return {}


def _page(place: str, message: str = "", *, status: int = 200) -> web.Response:
    line = f'<p class="problem" role="alert">{html.escape(message)}</p>\n' if message else ""
    text = PAGE.format(next=html.escape(place), message=line)
    headers = {"Content-Security-Policy": policy("none"), "Cache-Control": "no-store"}
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _go(place: str) -> web.Response:
    return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})


def _is_secure(request: web.Request, guard: Guard) -> bool:
    return scheme_of(request, guard.settings) == "https"
