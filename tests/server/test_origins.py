import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from server.origins import Origin, address_of, is_allowed_host, origin_of, scheme_of, split_host, stranger
from server.settings import ServerSettings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("localhost", ("localhost", None)),
        ("LocalHost.:8188", ("localhost", 8188)),
        ("[::1]:80", ("::1", 80)),
        ("1.2.3.4", ("1.2.3.4", None)),
        ("", None),
        ("a b", None),
        ("evil@localhost", None),
        ("localhost/evil", None),
        ("localhost:x", None),
        ("localhost,evil", None),
        ("::1", None),
    ],
)
def test_hosts_are_split(text, found):
    assert split_host(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://localhost", Origin("http", "localhost", 80)),
        ("HTTPS://Paint.Example/", Origin("https", "paint.example", 443)),
        ("chrome-extension://abcdef", Origin("chrome-extension", "abcdef", None)),
        ("http://[::1]:8188", Origin("http", "::1", 8188)),
        ("null", None),
        ("", None),
        ("http://", None),
        ("http://a/b", None),
        ("http://a http://b", None),
    ],
)
def test_origins_are_read(text, found):
    assert origin_of(text) == found


@pytest.mark.parametrize(
    ("host", "bound", "allowed", "is_allowed"),
    [
        ("localhost:8188", "127.0.0.1", (), True),
        ("127.0.0.1", "127.0.0.1", (), True),
        ("127.9.9.9:1", "127.0.0.1", (), True),
        ("[::1]:8188", "127.0.0.1", (), True),
        ("evil.example", "127.0.0.1", (), False),
        ("localhost.evil.example", "127.0.0.1", (), False),
        ("127.0.0.1.evil.example", "127.0.0.1", (), False),
        ("0.0.0.0:8188", "127.0.0.1", (), False),
        ("192.168.1.4", "127.0.0.1", (), False),
        ("2130706433", "127.0.0.1", (), False),
        ("0x7f.1", "127.0.0.1", (), False),
        ("", "127.0.0.1", (), False),
        ("192.168.1.4:8188", "192.168.1.4", (), True),
        ("192.168.1.5:8188", "192.168.1.4", (), False),
        ("[fd00::0001]", "fd00::1", (), True),
        ("box.local:8188", "box.local", (), True),
        ("other.local:8188", "box.local", (), False),
        ("10.0.0.1", "box.local", (), False),
        ("10.1.2.3:8188", "0.0.0.0", (), True),
        ("[fd00::1]:8188", "::", (), True),
        ("evil.example:8188", "0.0.0.0", (), False),
        ("evil.example", "", (), False),
        ("paint.example:443", "127.0.0.1", ("Paint.Example",), True),
        ("paint.example", "0.0.0.0", ("paint.example:8443",), True),
        ("sub.paint.example", "127.0.0.1", ("paint.example",), False),
        ("10.0.0.9", "127.0.0.1", ("10.0.0.9",), True),
    ],
)
def test_only_the_servers_own_names_are_hosts(host, bound, allowed, is_allowed):
    assert is_allowed_host(host, ServerSettings(host=bound, allowed_hosts=allowed)) is is_allowed


def asked(method="GET", **headers):
    return make_mocked_request(method, "/prompt", {"Host": "localhost:8188"} | headers)


@pytest.mark.parametrize(
    ("method", "headers", "found"),
    [
        ("GET", {}, None),
        ("POST", {}, None),
        ("POST", {"Origin": "http://localhost:8188"}, None),
        ("POST", {"Origin": "http://localhost:8188", "Sec-Fetch-Site": "same-origin"}, None),
        ("POST", {"Origin": "http://localhost:8188", "Sec-Fetch-Site": "cross-site"}, "http://localhost:8188"),
        ("POST", {"Origin": "http://localhost"}, "http://localhost"),
        ("POST", {"Origin": "http://localhost:3000"}, "http://localhost:3000"),
        ("POST", {"Origin": "http://127.0.0.1:8188"}, "http://127.0.0.1:8188"),
        ("POST", {"Origin": "https://localhost:8188"}, "https://localhost:8188"),
        ("POST", {"Origin": "null"}, "null"),
        ("POST", {"Origin": ""}, ""),
        ("GET", {"Origin": "https://evil.example"}, "https://evil.example"),
        ("GET", {"Origin": "null"}, "null"),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, "another site"),
        ("POST", {"Sec-Fetch-Site": "same-site"}, "another site"),
        ("POST", {"Sec-Fetch-Site": "none"}, None),
        ("DELETE", {"Sec-Fetch-Site": "same-origin"}, None),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "another site"),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, None),
        (
            "GET",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
            "another site",
        ),
        (
            "POST",
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            "another site",
        ),
        ("GET", {"Upgrade": "websocket"}, None),
        ("GET", {"Upgrade": "WebSocket", "Origin": "https://evil.example"}, "https://evil.example"),
        ("GET", {"Upgrade": "websocket", "Sec-Fetch-Site": "same-site"}, "another site"),
        ("GET", {"Upgrade": "websocket", "Origin": "http://localhost:8188"}, None),
        ("POST", {"Origin": "https://app.example"}, None),
        ("POST", {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}, None),
        ("POST", {"Origin": "https://app.example:444"}, "https://app.example:444"),
        ("POST", {"Origin": "http://app.example"}, "http://app.example"),
    ],
)
def test_requests_of_other_sites_are_strangers(method, headers, found):
    settings = ServerSettings(allowed_origins=("https://app.example",))
    assert stranger(asked(method, **headers), settings) == found


def test_two_origins_are_a_stranger():
    from multidict import CIMultiDict

    headers = CIMultiDict([("Host", "localhost"), ("Origin", "http://localhost"), ("Origin", "http://localhost")])
    assert stranger(make_mocked_request("POST", "/", headers), ServerSettings()) == "several origins"


def test_a_star_allows_no_origin():
    request = asked("POST", Origin="https://evil.example")
    assert stranger(request, ServerSettings(allowed_origins=("*",))) == "https://evil.example"


@pytest.mark.parametrize(
    ("is_proxied", "told", "scheme"),
    [(False, "https", "http"), (True, "https", "https"), (True, "http, HTTPS", "https"), (True, "ftp", "http")],
)
def test_the_scheme_is_the_proxys_only_behind_a_proxy(is_proxied, told, scheme):
    request = asked(**{"X-Forwarded-Proto": told})
    assert scheme_of(request, ServerSettings(is_proxied=is_proxied)) == scheme


def test_an_origin_with_https_is_our_own_behind_a_proxy():
    request = asked("POST", Host="paint.example", Origin="https://paint.example", **{"X-Forwarded-Proto": "https"})
    assert stranger(request, ServerSettings(is_proxied=True)) is None
    assert stranger(request, ServerSettings()) == "https://paint.example"


def test_a_proxy_that_adds_a_header_of_its_own_is_believed_not_the_client():
    headers = [("Host", "a"), ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "9.9.9.9"),
               ("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "https")]  # fmt: skip
    request = make_mocked_request("GET", "/", CIMultiDict(headers)).clone(remote="127.0.0.1")
    settings = ServerSettings(is_proxied=True)
    assert (address_of(request, settings), scheme_of(request, settings)) == ("9.9.9.9", "https")


@pytest.mark.parametrize(
    ("is_proxied", "told", "remote", "address"),
    [
        (False, "9.9.9.9", "1.2.3.4", "1.2.3.4"),
        (True, "9.9.9.9", "127.0.0.1", "9.9.9.9"),
        (True, "6.6.6.6, 9.9.9.9", "127.0.0.1", "9.9.9.9"),
        (True, "9.9.9.9:4711", "127.0.0.1", "9.9.9.9"),
        (True, "not an address", "127.0.0.1", "127.0.0.1"),
        (False, "", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (False, "", "fe80::1%eth0", "fe80::/64"),
        (False, "", "::ffff:1.2.3.4", "1.2.3.4"),
    ],
)
def test_whom_a_request_comes_from(is_proxied, told, remote, address):
    request = asked(**({"X-Forwarded-For": told} if told else {})).clone(remote=remote)
    assert address_of(request, ServerSettings(is_proxied=is_proxied)) == address
