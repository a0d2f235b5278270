import asyncio
import base64
import gzip
import io
import re

import pytest
from aiohttp import WSServerHandshakeError

from server.guard import COOKIE, policy, scope_of
from server.v1.table import OPERATIONS
from tests.server.guarded import serving

EVIL = "https://evil.example"
ATTACKS = {
    "DNS rebinding": ("GET", "/whoami", {"Host": "evil.example:8188"}),
    "DNS rebinding of a POST": ("POST", "/prompt", {"Host": "evil.example", "Origin": "http://evil.example"}),
    "a name that only begins like ours": ("GET", "/whoami", {"Host": "localhost.evil.example"}),
    "the address that stands for all": ("GET", "/whoami", {"Host": "0.0.0.0:8188"}),
    "a user in front of the host": ("GET", "/whoami", {"Host": "evil@localhost"}),
    "no host": ("GET", "/whoami", {"Host": ""}),
    "cross-site POST": ("POST", "/prompt", {"Origin": EVIL}),
    "cross-site POST as text, without a preflight": ("POST", "/prompt", {"Origin": EVIL, "Content-Type": "text/plain"}),
    "cross-site POST from another port": ("POST", "/prompt", {"Origin": "http://127.0.0.1:1"}),
    "cross-site POST without its origin": ("POST", "/prompt", {"Sec-Fetch-Site": "cross-site"}),
    "POST of a sandboxed frame": ("POST", "/prompt", {"Origin": "null"}),
    "cross-site form, sent as a navigation": (
        "POST", "/free", {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ),
    "cross-site DELETE": ("DELETE", "/v1/runs", {"Origin": EVIL}),
    "cross-site GET by a script": ("GET", "/v1/whoami", {"Origin": EVIL}),
    "GET of a sandboxed frame": ("GET", "/whoami", {"Origin": "null"}),
    "a picture in a foreign page": ("GET", "/view", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
    "preflight of another site": ("OPTIONS", "/prompt", {"Origin": EVIL, "Access-Control-Request-Method": "POST"}),
    "logging in somebody from another site": ("POST", "/login", {"Origin": EVIL}),
}  # fmt: skip


def going(work, folder, page="", **settings):
    """What `work(place)` returns, with the application served."""

    async def go():
        async with serving(folder, page, **settings) as place:
            return await work(place)

    return asyncio.run(go())


async def spoken(place, head):
    """The status of a request of which every byte is given."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.client.port)
    writer.write(head + b"Connection: close\r\n\r\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])


async def body(answer):
    return await answer.json(content_type=None)


@pytest.mark.parametrize("wants_token", [False, True])
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(tmp_path, attack, wants_token):
    method, path, headers = ATTACKS[attack]

    async def work(place):
        secret = await place.tokens.create("me", ["admin"])
        cookie = {COOKIE: secret}  # the browser of somebody who is logged in
        return await place.ask(method, path, headers=headers, cookies=cookie)

    answer = going(work, tmp_path, wants_token=wants_token)
    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_same_requests_pass_without_the_attack(tmp_path):
    async def work(place):
        own = {"Origin": place.own, "Sec-Fetch-Site": "same-origin"}
        return [
            (await place.ask(method, path, headers=own)).status
            for method, path in {(method, path) for method, path, _ in ATTACKS.values()}
            if method != "OPTIONS" and path != "/login"
        ]

    assert set(going(work, tmp_path)) == {200}


@pytest.mark.parametrize("headers", [{"Origin": EVIL}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_cross_site_websockets_are_refused(tmp_path, headers):
    async def work(place):
        secret = await place.tokens.create("me", ["admin"])
        with pytest.raises(WSServerHandshakeError) as raised:
            await place.client.ws_connect("/ws", headers={**headers, "Cookie": f"{COOKIE}={secret}"})
        return raised.value.status

    assert going(work, tmp_path, wants_token=True) == 403


def test_a_websocket_wants_a_token_and_takes_bearer_and_cookie(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        with pytest.raises(WSServerHandshakeError) as raised:
            await place.client.ws_connect("/ws", headers={"Accept": "text/html"})
        assert raised.value.status == 401
        said = []
        for headers in ({"Authorization": f"Bearer {secret}"}, {"Cookie": f"{COOKIE}={secret}", "Origin": place.own}):
            async with place.client.ws_connect("/ws", headers=headers) as socket:
                await socket.send_str("hello")
                said.append(await socket.receive_str())
        return said

    assert going(work, tmp_path, wants_token=True) == ["hello", "hello"]


def test_a_wrong_host_is_told_how_to_allow_it(tmp_path):
    async def work(place):
        comfy = await place.ask("GET", "/whoami", headers={"Host": "paint.example:8188"})
        ours = await place.ask("GET", "/v1/whoami", headers={"Host": "paint.example:8188"})
        return comfy, await body(comfy), ours, await body(ours)

    comfy, error, ours, problem = going(work, tmp_path)
    assert comfy.content_type == "application/json"
    assert error["error"]["type"] == "forbidden"
    assert error["error"]["message"] == "host 'paint.example:8188' is not a name of this server"
    assert error["error"]["details"].endswith("--allowed-host paint.example")
    assert error["error"]["extra_info"] == {}
    assert ours.content_type == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "fix"}
    assert problem["status"] == 403
    assert problem["fix"].endswith("--allowed-host paint.example")


def test_an_allowed_host_passes(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        return (await place.ask("GET", "/whoami", secret, headers={"Host": "paint.example"})).status

    assert going(work, tmp_path, allowed_hosts=("paint.example",)) == 200


@pytest.mark.parametrize(("lines", "status"), [
    (b"GET http://evil.example/whoami HTTP/1.1\r\nHost: localhost\r\n", 403),
    (b"GET /whoami HTTP/1.0\r\n", 403),
    (b"GET /whoami HTTP/1.1\r\nHost: \xe8.example\r\n", 403),
    (b"GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nOrigin: http://\xe8.example\r\n", 403),
    (b"GET /whoami HTTP/1.1\r\nHost: localhost\r\n", 200),
])  # fmt: skip
def test_requests_that_no_client_library_sends(tmp_path, lines, status):
    async def work(place):
        return await spoken(place, lines)

    assert going(work, tmp_path) == status


def test_two_hosts_are_refused(tmp_path):
    async def work(place):
        return await spoken(place, b"GET /whoami HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n")

    assert going(work, tmp_path) in (400, 403)


def test_pages_of_allowed_origins_may_ask_and_call(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["admin"])
        question = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST",
                    "Access-Control-Request-Headers": "authorization,idempotency-key",
                    "Access-Control-Request-Private-Network": "true"}  # fmt: skip
        preflight = await place.ask("OPTIONS", "/prompt", headers=question)
        called = await place.ask("POST", "/prompt", secret, headers={"Origin": "https://app.example"})
        refused = await place.ask("POST", "/prompt", headers={"Origin": "https://app.example"})
        rebound = await place.ask("POST", "/prompt", headers={"Origin": "https://app.example", "Host": "evil.example"})
        plain = await place.ask("GET", "/whoami", secret)
        return preflight, called, refused, rebound, plain

    preflight, called, refused, rebound, plain = going(
        work, tmp_path, wants_token=True, allowed_origins=("https://app.example/",)
    )
    assert preflight.status == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization,idempotency-key"
    assert preflight.headers["Access-Control-Allow-Private-Network"] == "true"
    assert (called.status, refused.status) == (200, 401)
    for answer in (preflight, called, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer.headers["Vary"] == "Origin"
    assert rebound.status == 403
    assert "Access-Control-Allow-Origin" not in rebound.headers
    assert "Access-Control-Allow-Origin" not in plain.headers
    assert plain.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "path", ["/whoami", "/v1/whoami", "/view", "/nowhere", "/conflict", "/login", "/login/style.css"]
)
def test_every_answer_has_the_security_headers(tmp_path, path):
    async def work(place):
        fine = await place.ask("GET", path)
        refused = await place.ask("GET", path, headers={"Host": "evil.example"})
        return fine, refused

    for answer in going(work, tmp_path):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe-eval" not in answer.headers["Content-Security-Policy"]


def test_files_of_users_are_shown_in_a_sandbox(tmp_path):
    async def work(place):
        answer = await place.ask("GET", "/view")
        return await answer.text(), answer.headers["Content-Security-Policy"]

    text, found = going(work, tmp_path, frontend="comfyui")
    assert text == "a picture"
    assert "sandbox" in found
    assert "default-src 'none'" in found


@pytest.mark.parametrize("frontend", ["canvas", "none"])
def test_our_pages_run_no_inline_script(frontend):
    found = policy(frontend)
    assert found.startswith("default-src 'self';")
    assert "unsafe" not in found
    assert "connect-src 'self';" in found


def test_a_page_may_open_sockets_to_the_server_by_the_name_it_has_there(tmp_path):
    async def work(place):
        hosts = ["localhost:8188", "127.0.0.1:8188", "[::1]:8188", "evil.example", "localhost; script-src *"]
        found = [await place.ask("GET", "/whoami", headers={"Host": host}) for host in hosts]
        policies = [answer.headers["Content-Security-Policy"] for answer in found]
        return [text.partition("connect-src ")[2].partition(";")[0] for text in policies]

    assert going(work, tmp_path) == [
        "'self' ws://localhost:8188 wss://localhost:8188", "'self' ws://127.0.0.1:8188 wss://127.0.0.1:8188",
        "'self'", "'self'", "'self'",
    ]  # fmt: skip


def test_comfyuis_frontend_may_do_what_it_needs_and_run_only_its_own_inline_scripts(tmp_path):
    page = '<script type="module" src="x.js"></script><script>alert(1)</script>'
    found = policy("comfyui", page)
    parts = dict(part.strip().split(" ", 1) for part in found.split(";"))
    assert parts["script-src"].split() == [
        "'self'", "'unsafe-eval'", "'wasm-unsafe-eval'", "blob:",
        "'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='",
    ]  # fmt: skip
    assert "'unsafe-inline'" in parts["style-src"]
    assert "blob:" in parts["worker-src"]
    assert {"blob:", "data:"} <= set(parts["img-src"].split())
    assert parts["frame-ancestors"] == "'none'"

    async def work(place):
        answer = await place.ask("GET", "/whoami")
        host = place.own.removeprefix("http://")
        return answer.headers["Content-Security-Policy"].replace(f" ws://{host} wss://{host}", "")

    assert going(work, tmp_path, page, frontend="comfyui") == found


def test_the_import_map_of_an_older_frontend_is_let_run():
    digest = "'sha256-CJt/FpW3RQlGvqBeO/YK74xrTm1ctS6rLMJu1bV4fMc='"
    assert digest in policy("comfyui", '<script type="importmap">{"imports": {}}</script>')
    assert "sha256" not in policy("comfyui", '<script type="module" src="x.js"> </script>')


def test_without_tokens_everybody_is_admin(tmp_path):
    async def work(place):
        return await body(await place.ask("GET", "/whoami", "ng_whatever"))

    assert going(work, tmp_path) == {"name": "", "may": ["run", "edit", "admin"]}


def test_a_token_comes_as_bearer_basic_or_cookie(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["edit"])
        basic = base64.b64encode(f"anyone:{secret}".encode()).decode()
        other = base64.b64encode(b"proxy:password").decode()
        asked = [
            {"Authorization": f"Bearer {secret}"},
            {"Authorization": f"bearer  {secret}"},
            {"Authorization": f"Basic {basic}"},
            {"Cookie": f"{COOKIE}={secret}"},
            {"Cookie": f"{COOKIE}={secret}", "Authorization": f"Basic {other}"},
        ]
        return [await body(await place.ask("GET", "/whoami", headers=headers)) for headers in asked]

    assert going(work, tmp_path, wants_token=True) == [{"name": "me", "may": ["run", "edit"]}] * 5


@pytest.mark.parametrize("header", [
    "Bearer", "Bearer ", "Bearer ng_wrong", "Basic", "Basic !", "Basic bm8=", "Basic bm86bm8=", "Digest x",
    "Bearer \xff",
])  # fmt: skip
def test_without_a_good_token_the_answer_is_401(tmp_path, header):
    async def work(place):
        await place.tokens.create("me", ["admin"])
        comfy = await place.ask("GET", "/whoami", headers={"Authorization": header})
        ours = await place.ask("GET", "/v1/whoami", headers={"Authorization": header})
        return comfy, await body(comfy), ours, await body(ours)

    comfy, error, ours, problem = going(work, tmp_path, wants_token=True)
    assert (comfy.status, ours.status) == (401, 401)
    assert comfy.headers["WWW-Authenticate"].startswith('Bearer realm="nodegraph"')
    assert error["error"]["type"] == "unauthorized"
    assert problem["type"] == "/v1/docs#problem-unauthorized"
    assert "ng_wrong" not in str(error) + str(problem)


def test_a_token_in_the_query_is_none(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["admin"])
        return (await place.ask("GET", f"/whoami?token={secret}&{COOKIE}={secret}")).status

    assert going(work, tmp_path, wants_token=True) == 401


def test_a_revoked_token_is_wrong_at_once(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        before = (await place.ask("GET", "/whoami", secret)).status
        await place.tokens.revoke("me")
        return before, (await place.ask("GET", "/whoami", secret)).status

    assert going(work, tmp_path, wants_token=True) == (200, 401)


def test_browsers_are_led_to_the_login_and_back(tmp_path):
    async def work(place):
        html = {"Accept": "text/html,*/*"}
        read = await place.ask("GET", "/whoami?a=1&b=%26", headers=html)
        sent = await place.ask("POST", "/prompt", headers=html)
        return read, sent

    read, sent = going(work, tmp_path, wants_token=True)
    assert (read.status, sent.status) == (303, 401)
    assert re.fullmatch(r"/login\?next=/whoami\?a(=|%3D)1%26b(=|%3D)%2526", read.headers["Location"])


@pytest.mark.parametrize("path", ["/healthz", "/login", "/login/style.css"])
def test_some_paths_are_open(tmp_path, path):
    async def work(place):
        return (await place.ask("GET", path)).status, await place.ask("GET", "/healthz")

    status, health = going(work, tmp_path, wants_token=True)
    assert (status, health.status) == (200, 200)


def test_whoever_is_let_in_without_a_token_is_nobody(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["admin"])
        return await body(await place.ask("GET", "/healthz", secret))

    assert going(work, tmp_path, wants_token=True) == {"name": "", "may": []}


@pytest.mark.parametrize("path", ["/login/../whoami", "/login/x", "//login", "/healthz/", "/healthz%2f", "/HEALTHZ"])
def test_a_path_that_only_looks_open_is_not(tmp_path, path):
    async def work(place):
        return await spoken(place, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n".encode())

    assert going(work, tmp_path, wants_token=True) == 401


def test_wrong_tokens_of_an_address_are_slowed_down_and_right_ones_never(tmp_path):
    async def work(place):
        secret = await place.tokens.create("me", ["run"])
        wrong = [(await place.ask("GET", "/whoami", "ng_wrong")).status for _ in range(12)]
        slowed = await place.ask("GET", "/v1/whoami", "ng_wrong")
        without = (await place.ask("GET", "/whoami")).status
        right = (await place.ask("GET", "/whoami", secret)).status
        place.clock.now += 5
        later = [(await place.ask("GET", "/whoami", "ng_wrong")).status for _ in range(2)]
        return wrong, slowed.headers["Retry-After"], without, right, later

    assert going(work, tmp_path, wants_token=True) == ([401] * 10 + [429] * 2, "5", 401, 200, [401, 429])


def test_behind_a_proxy_addresses_are_those_it_tells(tmp_path):
    async def work(place):
        async def wrong(address):
            return (await place.ask("GET", "/whoami", "ng_wrong", headers={"X-Forwarded-For": address})).status

        return [await wrong("1.1.1.1") for _ in range(11)][-1], await wrong("2.2.2.2"), await wrong("2.2.2.2, 1.1.1.1")

    assert going(work, tmp_path, wants_token=True, is_proxied=True) == (429, 401, 429)


SCOPES = {
    "run": [
        "GET /prompt", "POST /prompt", "POST /api/prompt", "POST /interrupt", "POST /queue", "GET /api/history",
        "GET /ws", "POST /upload/image", "POST /api/upload/mask", "GET /view", "HEAD /view", "GET /metrics",
        "POST /v1/runs", "POST /v1/runs/{id}/cancel", "POST /v1/uploads", "POST /v1/workflows/{name}/run",
        "GET /v1/workflows/{name}", "GET /userdata/{file}", "POST /jobs/{run}/cancel", "POST /api/jobs/cancel",
    ],
    "edit": [
        "POST /history", "POST /settings", "POST /api/settings/{id}", "POST /userdata/{file}",
        "DELETE /api/userdata/{file}", "POST /userdata/{file}/move/{dest}", "PUT /v1/workflows/{name}",
        "DELETE /v1/workflows/{name}", "DELETE /v1/runs/{id}", "PATCH /v1/runs/{id}", "POST /something/new",
        "BREW /prompt",
    ],
    "admin": [
        "POST /free", "POST /api/free", "POST /v1/system/free", "GET /internal/logs", "PATCH /internal/logs/subscribe",
        "GET /api/internal/logs", "GET /v1/tokens", "DELETE /v1/tokens/{name}",
        "POST /v1/queue/pause", "POST /v1/queue/resume", "DELETE /v1/runs",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("request_line", "scope"), [(line, scope) for scope, lines in SCOPES.items() for line in lines]
)
def test_the_scope_of_a_route(request_line, scope):
    assert scope_of(*request_line.split()) == scope


def test_the_scopes_are_those_that_the_operations_of_our_api_tell():
    assert [(one.method, one.path, scope_of(one.method, one.path)) for one in OPERATIONS] == [
        (one.method, one.path, one.scope) for one in OPERATIONS
    ]


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("run", ["/prompt", "/v1/runs"]),
        ("edit", ["/prompt", "/v1/runs", "/settings"]),
        ("admin", ["/prompt", "/v1/runs", "/settings", "/free", "/v1/tokens/x"]),
    ],
)
def test_a_token_may_what_its_scope_says(tmp_path, scope, allowed):
    async def work(place):
        secret = await place.tokens.create("me", [scope])
        paths = ["/prompt", "/v1/runs", "/settings", "/free", "/v1/tokens/x"]
        return {path: await place.ask("POST", path, secret) for path in paths}

    answers = going(work, tmp_path, wants_token=True)
    assert [path for path, answer in answers.items() if answer.status == 200] == allowed
    assert {answer.status for answer in answers.values()} <= {200, 403}


def test_a_missing_scope_is_told_in_words(tmp_path):
    async def work(place):
        secret = await place.tokens.create("ci", ["run"])
        return await body(await place.ask("POST", "/v1/tokens/x", secret))

    problem = going(work, tmp_path, wants_token=True)
    assert problem["detail"].startswith("token 'ci' lacks the scope 'admin'")
    assert problem["fix"] == "use a token that has it: nodegraph token add NAME --scope admin"


def test_the_route_decides_the_scope_however_the_path_is_spelt(tmp_path):
    async def work(place):
        secret = await place.tokens.create("ci", ["run"])
        paths = [b"/v1/tok%65ns/x", b"/%66ree", b"/v1/runs/../tokens/x", b"/v1/workflows/x%2Frun"]
        head = f"HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nAuthorization: Bearer {secret}\r\n".encode()
        return [await spoken(place, b"POST " + path + b" " + head) for path in paths]

    assert going(work, tmp_path, wants_token=True) == [403, 403, 404, 403]


def test_requests_that_come_too_often_wait(tmp_path):
    async def work(place):
        passed = [(await place.ask("GET", "/whoami")).status for _ in range(20)]
        slowed = await place.ask("GET", "/v1/whoami")
        health = [(await place.ask("GET", "/healthz")).status for _ in range(30)]
        place.clock.now += 0.5
        later = [(await place.ask("GET", "/whoami")).status for _ in range(2)]
        return passed, slowed, await body(slowed), health, later

    passed, slowed, problem, health, later = going(work, tmp_path, rate=2.0)
    assert passed == [200] * 20
    assert (slowed.status, slowed.headers["Retry-After"]) == (429, "1")
    assert problem["detail"].startswith("more than 2 requests a second")
    assert health == [200] * 30
    assert later == [200, 429]


def test_a_token_has_a_rate_of_its_own_and_tokens_do_not_share(tmp_path):
    async def work(place):
        slow = await place.tokens.create("slow", ["run"], rate=0.2)
        fast = await place.tokens.create("fast", ["run"], rate=100.0)
        first = [(await place.ask("GET", "/whoami", slow)).status for _ in range(3)]
        second = [(await place.ask("GET", "/whoami", fast)).status for _ in range(12)]
        return first, second

    assert going(work, tmp_path, wants_token=True, rate=1.0) == ([200, 200, 429], [200] * 12)


def test_a_rate_of_nothing_is_no_limit(tmp_path):
    async def work(place):
        return {(await place.ask("GET", "/whoami")).status for _ in range(30)}

    assert going(work, tmp_path, rate=0.0) == {200}


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("path", ["/prompt", "/v1/runs"])
def test_a_body_has_a_limit(tmp_path, path, is_chunked):
    async def chunks(size):
        yield b"x" * size

    async def work(place):
        def content(size):
            return chunks(size) if is_chunked else io.BytesIO(b"x" * size)

        fine = await place.ask("POST", path, data=content(2 << 20))
        large = await place.ask("POST", path, data=content((2 << 20) + 1))
        return fine.status, large.status, await body(large)

    fine, large, problem = going(work, tmp_path, max_upload=2 << 20)
    assert (fine, large) == (200, 413)
    assert "more than 2,097,152 bytes" in str(problem)


def test_a_token_has_a_body_limit_of_its_own(tmp_path):
    async def work(place):
        small = await place.tokens.create("small", ["run"], max_upload=10)
        large = await place.tokens.create("large", ["run"], max_upload=1000)
        return [
            (await place.ask("POST", "/prompt", secret, data=b"x" * size)).status
            for secret, size in ((small, 10), (small, 11), (large, 1000), (large, 1001))
        ]

    assert going(work, tmp_path, wants_token=True, max_upload=100) == [200, 413, 200, 413]


def test_routes_that_read_piece_by_piece_see_the_limit_of_the_token(tmp_path):
    async def work(place):
        secrets = [await place.tokens.create("a", ["run"], max_upload=10), await place.tokens.create("b", ["run"])]
        return [await body(await place.ask("POST", "/upload/image", secret, data=b"x")) for secret in secrets]

    assert going(work, tmp_path, wants_token=True, max_upload=4000) == [10, 4000]


def test_a_small_body_that_unpacks_to_a_large_one_is_refused(tmp_path):
    async def work(place):
        bomb = gzip.compress(bytes(4 << 20))
        return (await place.ask("POST", "/prompt", data=bomb, headers={"Content-Encoding": "gzip"})).status

    assert going(work, tmp_path, max_upload=1 << 20) == 413


def test_a_body_that_is_not_as_it_is_packed_is_no_fault_of_the_server(tmp_path):
    async def work(place):
        answer = await place.ask("POST", "/v1/runs", data=b"not gzip at all", headers={"Content-Encoding": "gzip"})
        return answer.status, await body(answer)

    status, problem = going(work, tmp_path)
    assert status == 400
    assert problem["type"] == "/v1/docs#problem-malformed"


def test_errors_of_the_router_are_put_into_words(tmp_path):
    async def work(place):
        missing = await place.ask("GET", "/v1/nowhere")
        method = await place.ask("POST", "/v1/whoami")
        comfy = await place.ask("PUT", "/prompt")
        conflict = await place.ask("GET", "/conflict")
        return missing, await body(missing), method, await body(method), comfy, await body(comfy), await conflict.text()

    missing, problem, method, refused, comfy, error, conflict = going(work, tmp_path)
    assert (missing.status, problem["type"]) == (404, "/v1/docs#problem-not-found")
    assert (method.status, refused["status"]) == (405, 405)
    assert "GET" in method.headers["Allow"]
    assert (comfy.status, error["error"]["type"]) == (405, "method")
    assert conflict == "mine alone"
