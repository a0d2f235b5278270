"""Whatever is sent, the server answers in words, stays up, and leaves everything outside its folders alone.

More of it: `NODEGRAPH_FUZZ=10 pytest tests/server/test_fuzz.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import struct
import sys
import zlib
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodegraph.comfy import from_editor
from nodegraph.documents import from_picture, from_text
from nodegraph.errors import FileProblem, WorkflowError
from nodegraph.registry import Registry
from nodegraph.worker import Frame, encode
from nodegraph.workflow import Workflow
from server.workers import WorkerDied, WorkerProcess, WorkerState
from tests.server.fuzzing import (
    BODY,
    DOCUMENT,
    EDITOR,
    GRAPH,
    HANG,
    JUNK,
    MUTANTS,
    PICTURES,
    TEXT,
    WARNED,
    bitten,
    broken,
    deep,
    living,
    many,
    one_of,
    png,
    text_of,
    webp,
)  # fmt: skip
from tests.server.working import n, node_folder

pytestmark = WARNED

REPEATED = b'{"prompt": {"1": {"class_type": "Word", "inputs": {}}, "1": {"class_type": "Note", "inputs": {}}}}'
ODD_TEXTS = one_of([
    b"", b"null", b"[]", b"0", b'"x"', b"{}", b'{"prompt": null}', b'{"prompt": []}', REPEATED, b"\xef\xbb\xbf{}",
    json.dumps(BODY).encode("utf-16"), b'{"prompt": ' + deep(100_000) + b"}", deep(100_000), deep(50_000, '{"a":', "}"),
    b'{"prompt": {"1": {"class_type": "Word", "inputs": {"text": ' + deep(900) + b"}}}}", b"[" * 200_000,
    b'{"prompt": {"1": 1e999}}', b'{"number": ' + b"9" * 100_000 + b"}", b"\xff" * 100, b"\0" * 100,
    b"{" + b" " * 100_000,
])  # fmt: skip
KINDS = one_of([
    "application/json", "", "text/plain", "application/json; charset=utf-99", "application/json;charset=\udcff",
    "multipart/form-data", "multipart/form-data; boundary=", "application/x-www-form-urlencoded", "x" * 5000,
    "application/problem+json", "application/json, text/html", "*/*",
])  # fmt: skip
CODINGS = st.sampled_from(["identity", "gzip", "deflate", "br", "zstd", "gzip, gzip", "x", "compress", ""])
ODD_TAGS = st.sampled_from(["*", '"1"', 'W/"2"', '""', "1", '"', '"1", "2"', "\u0661", "x" * 300])
POSTS = st.sampled_from([
    "/prompt", "/api/prompt", "/v1/runs", "/v1/check", "/queue", "/history", "/interrupt", "/free", "/settings",
    "/settings/x", "/v1/tokens", "/v1/workflows/none/run", "/v1/uploads", "/upload/image", "/login", "/logout",
    "/users", "/api/jobs", "/userdata/f.json", "/v1/open",
])  # fmt: skip


SCRIBBLE = """
import os
from nodegraph.spec import node

@node("Scribble", category="t", kind="sink")
def scribble(*, text: str) -> None:
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                os.write(int(number), text.encode("latin-1"))
        except OSError:  # it is gone, or only read from
            pass
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (node_folder(folder) / "scribble.py").write_text(SCRIBBLE)
    with living(folder) as live:
        yield live


@pytest.fixture
def live(served):
    yield served
    served.sound()


# Prompts and documents


@many(120)
@given(body=broken(BODY))
def test_a_prompt_with_anything_in_it_is_answered(live, body):
    status, answer = live.ask("POST", "/prompt", text_of(body), Content_Type="application/json")
    assert status in (200, 400)
    json.loads(answer.partition(b"\r\n\r\n")[2])


@many(60)
@given(body=broken({"workflow": DOCUMENT, "inputs": {"text": "b"}, "priority": 0, "targets": ["3"], "client": "x"}))
def test_a_document_with_anything_in_it_is_answered(live, body):
    for path in ("/v1/check", "/v1/runs"):
        status, answer = live.ask("POST", path, text_of(body), Content_Type="application/json")
        assert status in (200, 202, 400, 404, 409, 422)
        json.loads(answer.partition(b"\r\n\r\n")[2])


@many(60)
@given(document=broken(EDITOR))
def test_an_editor_file_with_anything_in_it_is_answered(live, document):
    body = text_of({"workflow": document})
    assert live.ask("POST", "/v1/check", body, Content_Type="application/json")[0] in (200, 400, 404, 422)
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + text_of(document) + b"\r\n--x--"
    )
    assert live.ask("POST", "/v1/open", form, Content_Type="multipart/form-data; boundary=x")[0] in (200, 422)


@many(40)
@given(body=broken({"name": "a", "workflow": "b", "base": '"c"', "document": DOCUMENT}), match=ODD_TAGS)
def test_a_draft_with_anything_in_it_is_answered(live, body, match):
    status, _ = live.ask("PUT", "/v1/drafts/a", text_of(body), Content_Type="application/json", If_Match=match)
    assert status in (200, 201, 400, 412, 422)
    assert live.ask("GET", "/v1/drafts/a")[0] in (200, 404)


@many(150)
@given(path=POSTS, body=ODD_TEXTS | st.binary(max_size=300) | JUNK.map(text_of), kind=KINDS, coding=CODINGS)
def test_any_body_of_any_kind_is_answered(live, path, body, kind, coding):
    if coding == "deflate":
        body = body[:20_000]  # aiohttp leaves a longer one that is broken waiting for its rest
    live.ask("POST", path, body, Content_Type=kind, Content_Encoding=coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("path", ["/prompt", "/v1/runs", "/settings", "/userdata/bomb", "/upload/image", "/v1/uploads"])
def test_a_bomb_is_refused_before_it_is_in_memory(live, path, coding):
    packer = zlib.compressobj(9, wbits=31 if coding == "gzip" else 15)
    head = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' if "upload" in path else b" "
    )
    pieces = [packer.compress(head), *(packer.compress(bytes(1 << 20)) for _ in range(256)), packer.flush()]
    bomb, before = b"".join(pieces), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kind = "multipart/form-data; boundary=x" if "upload" in path else "application/json"
    status, _ = live.ask("POST", path, bomb, Content_Type=kind, Content_Encoding=coding)
    assert status == (413 if coding == "gzip" else 415)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


REGISTRY = Registry().with_entry_points()


@many(300)
@given(text=broken(DOCUMENT).map(text_of) | broken(GRAPH).map(text_of) | ODD_TEXTS | bitten(text_of(DOCUMENT)))
def test_the_parser_takes_a_document_or_says_why_not(text):
    try:
        Workflow.parse(text).as_json()
    except WorkflowError as error:
        assert str(error)


@many(300)
@given(text=broken(EDITOR).map(text_of) | bitten(text_of(EDITOR)))
def test_the_parser_takes_an_editor_file_or_says_why_not(text):
    try:
        from_text(text, REGISTRY).as_json()
    except WorkflowError as error:
        assert str(error)


def test_the_editor_file_that_is_broken_here_is_a_good_one():
    assert sorted(node.class_type for node in Workflow.of(from_editor(EDITOR, REGISTRY.get)).nodes.values()) == [
        "EmptyImage", "ImageInvert", "Reroute", "SaveImage",
    ]  # fmt: skip


def test_the_pictures_that_are_bitten_here_carry_a_workflow(tmp_path):
    for name, content in (("a.png", PICTURES[0]), ("b.png", PICTURES[1]), ("c.webp", PICTURES[2])):
        (tmp_path / name).write_bytes(content)
        assert from_picture(tmp_path / name, REGISTRY).nodes


TOLD = st.one_of(
    broken(GRAPH).map(lambda graph: png(prompt=json.dumps(graph))), TEXT.map(lambda text: png(nodegraph=ascii(text))),
    broken(EDITOR).map(lambda document: png(workflow=json.dumps(document))), TEXT.map(lambda text: webp(ascii(text))),
)  # fmt: skip


@many(300)
@given(content=MUTANTS | TOLD)
def test_a_picture_gives_its_workflow_or_says_why_not(tmp_path, content):
    place = tmp_path / "a.png"
    place.write_bytes(content)
    try:
        from_picture(place, REGISTRY).as_json()
    except (FileProblem, WorkflowError) as error:
        assert str(error)


# Requests, sockets, secrets and workers


HEADS = one_of([
    b"GET / HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET http://x/healthz HTTP/1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET //etc/passwd HTTP/1.0\r\n\r\n", b"GET /../secret.txt HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n{}",
    b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    b"GET /view?filename=secret.txt HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-,1-\r\nIf-None-Match: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
])  # fmt: skip


@many(150)
@given(content=HEADS | HEADS.flatmap(bitten) | st.binary(max_size=200))
def test_bytes_that_are_hardly_a_request_do_no_harm(live, content):
    live.send(content)


ODD_HEADERS = one_of([
    "", "\xff", "\ud800", "http://\ud800", '"\ud800"', "*", "\"", "bytes=0-", "bytes=-0",
    "bytes=9-1", "bytes=" + "0-1," * 500, "W/\"x\"", "null",
    "http://[::1", "[::1]:x",
    "127.0.0.1:99999", "a b", "x" * 7000, "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Foo 9999999 00:00:00 GMT", "-1",
    "1e9",
    "text/html;q=x", "image/*;q=0", "keep-alive, Upgrade", "websocket", "%", "=;=;=", "nodegraph_token=\"\\",
    "trailers",
])  # fmt: skip
NAMES = st.sampled_from([  # not Expect: where it is no UTF-8, aiohttp fails before the server sees the request
    "Host", "Origin", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "Accept",
    "Accept-Encoding",
    "Cookie", "Authorization", "Prefer", "Idempotency-Key", "Last-Event-ID", "Forwarded",
    "X-Forwarded-For", "X-Forwarded-Proto", "Referer", "Sec-Fetch-Site", "Access-Control-Request-Method", "Comfy-User",
    "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "TE",
])  # fmt: skip
GETS = st.sampled_from([
    "/healthz", "/view?filename=p_00001_.txt", "/v1/files/output/p_00001_.txt", "/object_info",
    "/v1/workflows/text_to_image", "/web/app.js", "/v1/socket", "/v1/nodes?detail=true",
    "/ws", "/v1/docs", "/queue", "/v1/runs", "/login", "/", "/metrics", "/v1/openapi.json", "/history?max_items=1",
])  # fmt: skip


@many(150)
@given(path=GETS, headers=st.dictionaries(NAMES, ODD_HEADERS, max_size=3))
def test_any_header_is_answered(live, path, headers):
    live.ask("GET", path, **headers)


def frame(opcode, content, *, bits=0x80, is_masked=True, length=None):
    """A frame of a WebSocket, perhaps a broken one."""
    size = len(content) if length is None else length
    said = struct.pack(">BBQ", bits | opcode, 0x80 * is_masked | 127, size)
    return said + bytes(4) * is_masked + content


HELLO = (
    b"GET /ws?clientId=%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n"
)
FLAGS = broken({"type": "feature_flags", "data": {"supports_preview_metadata": True}}).map(text_of)
FRAMES = st.one_of(
    FLAGS.map(lambda text: frame(1, text)), st.binary(max_size=60), ODD_TEXTS.map(lambda text: frame(1, text)),
    st.builds(frame, st.integers(0, 15), st.binary(max_size=130), bits=st.sampled_from([0, 0x80, 0x40, 0xF0]),
              is_masked=st.booleans(), length=st.sampled_from([None, None, 2**40, 2**63, 0])),
)  # fmt: skip
SHAKES = one_of([b"", b"Sec-WebSocket-Extensions: permessage-deflate\r\n", b"Sec-WebSocket-Protocol: a, b\r\n",
                 b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99\r\n"])  # fmt: skip


@many(100)
@given(client=TEXT.map(lambda text: quote(text[:300].encode("utf-8", "surrogatepass")).encode()), shake=SHAKES,
       frames=st.lists(FRAMES, max_size=5))  # fmt: skip
def test_any_frame_to_a_websocket_does_no_harm(live, client, shake, frames):
    with socket.create_connection(("127.0.0.1", live.port), timeout=HANG) as connection:
        connection.sendall(HELLO % (client, shake))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 101 ")
        with contextlib.suppress(OSError):  # it was closed meanwhile
            connection.sendall(b"".join(frames))
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass


def test_a_message_that_is_too_long_ends_its_connection_alone(live):
    def too_long():
        """What is heard after the head of a message of 3 MiB, whose body is not sent: it would meet a closed door."""
        with socket.create_connection(("127.0.0.1", live.port), timeout=HANG) as connection:
            connection.sendall(HELLO % (b"long", b"") + b"\x81\xff" + (3 << 20).to_bytes(8, "big") + bytes(4))
            return b"".join(iter(lambda: connection.recv(4096), b""))

    async def story():
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://127.0.0.1:{live.port}/ws") as other:
                heard = await asyncio.to_thread(too_long)
                await other.send_json({"type": "feature_flags", "data": {}})
                while (await other.receive_json(timeout=HANG))["type"] != "feature_flags":
                    pass
                return heard

    assert asyncio.run(story()).endswith(b"\x88\x02" + (1009).to_bytes(2, "big"))


def test_hundreds_of_connections_that_come_and_go_leave_nothing_behind(live):
    for number in range(300):
        with socket.create_connection(("127.0.0.1", live.port), timeout=HANG) as connection:
            connection.sendall(HELLO % (b"same" if number % 2 else b"%d" % number, b""))
            if number % 3:
                assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
            if number % 3 == 2:
                connection.sendall(frame(8, struct.pack(">H", 1000)))
            elif number % 5 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    live.good()
    live.wait(live.whole.until(lambda: not live.whole.service.sockets._sockets))


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    with living(tmp_path_factory.mktemp("locked"), wants_token=True) as live:
        yield live


TOKENS = one_of([
    "", "Bearer", "Bearer ", "Bearer x", "bearer \xff", "Basic", "Basic x", "Basic Og==", "Basic /////w==",
    "Basic " + "A" * 7000,
    "Bearer ng_" + "a" * 43, "Bearer ng_" + "a" * 7000, "Digest x", "Bearer ng_\u00e9",
    "Bearer '; drop table tokens; --",
    "Negotiate", "Bearer a, Bearer b", "\t", "Bearer %00",
])  # fmt: skip
COOKIES = one_of([
    "", "nodegraph_token", "nodegraph_token=", "nodegraph_token=x; nodegraph_token=y", 'nodegraph_token="', "=", ";;;",
    "a" * 7000,
    "nodegraph_token=\xff", 'nodegraph_token="\\777"', "nodegraph_token=ng_" + "a" * 43,
    "$Version=1; nodegraph_token=x",
    "nodegraph_token=x" * 100, "Expires=Thu; nodegraph_token=\t",
])  # fmt: skip


@many(150)
@given(path=GETS, token=TOKENS | TEXT, cookie=COOKIES | TEXT)
def test_no_garbage_opens_a_server_that_wants_a_token(locked, path, token, cookie):
    plain = [text.encode("utf-8", "surrogatepass").translate(None, b"\0\r\n")[:7000] for text in (token, cookie)]
    status, _ = locked.ask("GET", path, Authorization=plain[0], Cookie=plain[1])
    assert status in ((200, 400, 429) if path in ("/healthz", "/login") else (303, 400, 401, 429))


@many(40)
@given(
    body=st.binary(max_size=100)
    | st.sampled_from([b"token=", b"token=%ff", b"token=ng_a&next=//x", b"token=a&token=b", b"&&&"])
)
def test_no_garbage_logs_in(locked, body):
    status, answer = locked.ask("POST", "/login", body, Content_Type="application/x-www-form-urlencoded")
    assert status >= 400 and b"Set-Cookie: nodegraph_token=n" not in answer


class Pipe:
    """A process that says some bytes and ends when it is killed."""

    def __init__(self, content):
        self.stdout, self.returncode, self.is_over = asyncio.StreamReader(), None, asyncio.Event()
        self.stdout.feed_data(content)

    def kill(self):
        self.returncode = -9
        self.is_over.set()

    async def wait(self):
        await self.is_over.wait()


REPORTS = broken({"is": "events", "run": "x", "events": [{"type": "NodeStarted", "run": "x"}]}).map(text_of)
STREAMS = st.lists(
    st.binary(max_size=40) | bitten(encode(Frame({"is": "ready"}, b"x"))) | st.just(encode(Frame({"is": "beat"})))
    | st.builds(lambda head, body: struct.pack(">II", len(head), len(body)) + head + body, REPORTS,
    st.binary(max_size=9)),
    max_size=4,
).map(b"".join)  # fmt: skip


@many(200)
@given(content=STREAMS)
def test_whatever_a_worker_writes_it_is_heard_or_ended(content):
    async def story():
        process = WorkerProcess(WorkerState("cpu", "cpu"))
        process._process = pipe = Pipe(content)
        ear = asyncio.create_task(process._listen())
        pipe.stdout.feed_eof()
        await asyncio.wait_for(ear, HANG)  # which raises nothing
        pipe.kill()
        with pytest.raises(WorkerDied):
            while (found := await process.next(HANG)) is not None:
                assert "is" in found.head

    asyncio.run(story())


@pytest.mark.skipif(sys.platform != "linux", reason="the node looks for its pipes as Linux shows them")
def test_a_node_that_writes_between_the_reports_fails_its_run_alone(live):
    content = "\xff\0\0\0 this is no report" * 20
    run = live.wait(live.whole.prompt({"1": n("Scribble", text=content)}))
    record = live.wait(live.whole.over(run))
    assert record.status == "error" and "it wrote what is no report" in record.error["message"]
