import asyncio
import html
import re

import pytest

from server.guard import COOKIE
from server.login import onward
from tests.server.guarded import serving


def going(work, folder, **settings):
    async def go():
        async with serving(folder, **{"wants_token": True, **settings}) as place:
            return await work(place)

    return asyncio.run(go())


def test_the_whole_way_in_and_out(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        led = await place.ask("GET", "/whoami?a=1", headers={"Accept": "text/html"})
        page = await place.ask("GET", led.headers["Location"])
        place_of_page = html.unescape(re.search(r'name="next"[^>]* value="([^"]*)"', await page.text()).group(1))
        form = {"token": f" {secret}\n", "next": place_of_page}
        entered = await place.ask("POST", "/login", data=form, headers={"Origin": place.own})
        inside = await place.ask("GET", entered.headers["Location"])
        left = await place.ask("POST", "/logout", headers={"Origin": place.own})
        outside = await place.ask("GET", "/whoami")
        return entered, await inside.json(), left, outside

    entered, inside, left, outside = going(work, tmp_path)
    assert (entered.status, entered.headers["Location"]) == (303, "/whoami?a=1")
    assert inside["name"] == "me"
    assert (left.status, left.headers["Location"]) == (303, "/login")
    assert outside.status == 401


@pytest.mark.parametrize(("proto", "is_secure"), [("http", False), ("https", True)])
def test_the_cookie_is_for_this_site_and_no_script(tmp_path, proto, is_secure):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        answer = await place.ask("POST", "/login", data={"token": secret}, headers={"X-Forwarded-Proto": proto})
        return secret, answer.headers["Set-Cookie"], answer.headers["Location"]

    secret, cookie, location = going(work, tmp_path, is_proxied=True)
    parts = [part.strip() for part in cookie.split(";")]
    assert parts[0] == f"{COOKIE}={secret}"
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(parts)
    assert ("Secure" in parts) is is_secure
    assert not any(part.startswith("Domain") for part in parts)
    assert location == "/"


@pytest.mark.parametrize("form", [
    {"token": "ng_wrong"}, {}, {"token": ""}, {"other": "x"}, b"token", b"\xff\xfe", b"a=1&" * 50, b"token=%ff%00",
])  # fmt: skip
def test_a_wrong_form_shows_the_page_again(tmp_path, form):
    async def work(place):
        await place.tokens.create("me", ["run"])
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await place.ask("POST", "/login", data=form, headers=headers)
        return answer, await answer.text()

    answer, text = going(work, tmp_path)
    assert answer.status == 401
    assert answer.content_type == "text/html"
    assert "This token is not known here." in text
    assert "ng_wrong" not in text
    assert "Set-Cookie" not in answer.headers


def test_other_kinds_of_body_are_no_form(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        return (await place.ask("POST", "/login", json={"token": secret})).status

    assert going(work, tmp_path) == 401


def test_a_large_form_is_refused(tmp_path):
    async def work(place):
        return (await place.ask("POST", "/login", data={"token": "x" * 70_000})).status

    assert going(work, tmp_path) == 413


def test_guessing_at_the_page_is_slowed_down_together_with_guessing_elsewhere(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        for _ in range(5):
            await place.ask("GET", "/whoami", "ng_wrong")
        tried = [(await place.ask("POST", "/login", data={"token": "ng_wrong"})).status for _ in range(6)]
        slowed = await place.ask("POST", "/login", data={"token": "ng_wrong"})
        right = (await place.ask("POST", "/login", data={"token": secret})).status
        return tried, slowed.headers["Retry-After"], right

    assert going(work, tmp_path) == ([401] * 5 + [429], "5", 303)


def test_the_page_has_no_script_and_escapes_what_it_shows(tmp_path):
    async def work(place):
        page = await place.ask("GET", "/login", params={"next": '/"><script>alert(1)</script>'})
        style = await place.ask("GET", "/login/style.css")
        return page, await page.text(), style

    page, text, style = going(work, tmp_path, frontend="comfyui")
    assert "<script" not in text
    assert "style=" not in text and "<style" not in text
    assert "&quot;&gt;&lt;script&gt;" in text
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    assert style.content_type == "text/css"


@pytest.mark.parametrize("place", ["/", "/whoami", "/a/b?c=d&e=%2F#f", "/~x", "/a//b", "/?u=http://evil.example"])
def test_a_path_of_this_server_is_where_it_goes_on(place):
    assert onward(place) == place


@pytest.mark.parametrize("place", [
    "", "whoami", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example",
    " /x", "http://evil.example", "https:evil.example", "javascript:alert(1)", "/a b", "/a\r\nSet-Cookie: x=y", "/ä",
    "/\x7f", "/login", "/login?next=/login", "/logout",
])  # fmt: skip
def test_whatever_else_was_asked_leads_to_the_start(place):
    assert onward(place) == "/"


def test_a_foreign_place_to_go_is_not_gone_to(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        form = {"token": secret, "next": "//evil.example/"}
        return (await place.ask("POST", "/login", data=form)).headers["Location"]

    assert going(work, tmp_path) == "/"


def test_where_no_token_is_needed_the_page_leads_on(tmp_path):
    async def work(place):
        answer = await place.ask("GET", "/login?next=/whoami")
        return answer.status, answer.headers["Location"]

    assert going(work, tmp_path, wants_token=False) == (303, "/whoami")
