"""Which hosts and pages a request may come by: against DNS rebinding and requests that other sites forge."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from aiohttp import web

from server.settings import ServerSettings

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
READING = ("GET", "HEAD", "OPTIONS")
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?"


class Origin(NamedTuple):
    """Where a page comes from; without a port where its scheme has none by default."""

    scheme: str
    host: str
    port: int | None


def split_host(text: str) -> tuple[str, int | None] | None:
    """`[::1]:8188` -> (`::1`, 8188), in lower case, without the dot that may end a name; None for what is no host."""
    match = re.fullmatch(_HOST, text)
    if match is None:
        return None
    return match.group(1).strip("[]").lower().removesuffix("."), int(match.group(2)) if match.group(2) else None


def origin_of(text: str) -> Origin | None:
    """An origin, with the port its scheme implies; None for what is none, such as `null`."""
    scheme, _, rest = text.lower().removesuffix("/").partition("://")
    host = split_host(rest) if re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) else None
    return None if host is None else Origin(scheme, host[0], host[1] or PORTS.get(scheme))


def is_allowed_host(text: str, settings: ServerSettings) -> bool:
    """True when a Host header names this server by a name that is really its own.

    A page of another site can make its name mean our address (DNS rebinding), but it cannot make us believe the name.
    An address is no name, so where any address may be ours, every address will do.
    """
    found = split_host(text)
    if found is None:
        return False
    host = found[0]
    named = {_name(name) for name in settings.allowed_hosts} | {"localhost"}
    bound = settings.host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in named or (host == bound and bound != "")
    if bound in ("", "0.0.0.0", "::"):
        return True
    is_ours = (address.version == 4 and address.is_loopback) or address == ipaddress.ip_address("::1")
    return is_ours or _same(address, bound) or host in named


def scheme_of(request: web.Request, settings: ServerSettings) -> str:
    """`http` or `https`, as the client sees it."""
    if settings.is_proxied:
        told = _last(request, "X-Forwarded-Proto").lower()
        if told in ("http", "https"):
            return told
    return "https" if request.secure else "http"


def address_of(request: web.Request, settings: ServerSettings) -> str:
    """Whom a request comes from: an IPv4 address, or the /64 network of an IPv6 address.

    Of `X-Forwarded-For` only the last entry counts: the proxy wrote that one, the others the client may have.
    """
    told = request.remote or ""
    if settings.is_proxied:
        told = _last(request, "X-Forwarded-For") or told
    try:
        address = ipaddress.ip_address(told.partition("%")[0])
    except ValueError:
        host = split_host(told)
        return host[0] if host else request.remote or ""
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def own_origin(request: web.Request, settings: ServerSettings) -> Origin | None:
    """The origin of the server's own pages, as the client reaches it."""
    return origin_of(f"{scheme_of(request, settings)}://{request.headers.get('Host', '')}")


def is_allowed_origin(text: str, settings: ServerSettings) -> bool:
    """True for an origin whose pages may call the server though they are not its own."""
    origin = origin_of(text)
    return origin is not None and any(origin == origin_of(allowed) for allowed in settings.allowed_origins)


def is_upgrade(request: web.Request) -> bool:
    """True when a request opens a WebSocket."""
    return "websocket" in request.headers.get("Upgrade", "").lower()


def stranger(request: web.Request, settings: ServerSettings) -> str | None:
    """The page of another site that sent a request, in words; None when it was no such page.

    Scripts send no Origin; browsers send it with whatever changes something and with every WebSocket. What they may
    leave it out of (pictures, scripts, links) they mark with Sec-Fetch-Site; of those, only a link that opens a page
    may pass.
    """
    site = request.headers.get("Sec-Fetch-Site", "").lower()
    origins = request.headers.getall("Origin", [])
    if len(origins) > 1:
        return "several origins"
    if origins:
        if is_allowed_origin(origins[0], settings):
            return None
        origin = origin_of(origins[0])
        is_own = origin is not None and origin == own_origin(request, settings)
        return None if is_own and site != "cross-site" else origins[0][:200]
    if request.method in READING and not is_upgrade(request):
        is_link = request.headers.get("Sec-Fetch-Mode") == "navigate" and (
            request.headers.get("Sec-Fetch-Dest") == "document"
        )
        return "another site" if site == "cross-site" and not is_link else None
    return "another site" if site in ("cross-site", "same-site") else None


def _name(text: str) -> str:
    found = split_host(text)
    return found[0] if found else text.strip("[]").lower()


def _last(request: web.Request, header: str) -> str:
    """The last entry of a header that is a list; a proxy adds its own there, or as a header of its own."""
    return ",".join(request.headers.getall(header, [])).rpartition(",")[2].strip()


def _same(address: ipaddress.IPv4Address | ipaddress.IPv6Address, bound: str) -> bool:
    try:
        return address == ipaddress.ip_address(bound)
    except ValueError:
        return False
