"""Whatever files and names are sent, nothing outside the folders is read or written, and nothing is left behind."""

from __future__ import annotations

import io
import json
import struct
import zlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.server.fuzzing import (
    DOCUMENT,
    MUTANTS,
    PICTURES,
    PNG,
    TEXT,
    WARNED,
    bitten,
    living,
    many,
    one_of,
    text_of,
)  # fmt: skip
from tests.server.working import n

pytestmark = WARNED


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with living(tmp_path_factory.mktemp("fuzz")) as live:
        yield live


@pytest.fixture
def live(served):
    yield served
    served.sound()


FILE_NAMES = one_of([
    "a.png", "", ".", "..", "../../secret.txt", "..\\..\\x.png", "/etc/x.png", "C:\\x.png", "a\0.png", "a/b.png",
    ".hidden",
    "a.png.", "con.png", "\u202egnp.a", "e\u0301.png", "\ud800.png", "x" * 300 + ".png", "a.html", "a [output].png",
    'a".png', "a\r\nX: y.png", "\uff0e\uff0e/x.png", "out/x.png", ".0123456789ab.part", "a.png/", "%2e%2e/x.png",
]) | TEXT  # fmt: skip
PART_HEADERS = one_of([
    b"", b"Content-Type: image/png\r\n", b"Content-Transfer-Encoding: base64\r\n", b"Content-Encoding: gzip\r\n",
    b"Content-Length: 99999999\r\n", b"Content-Length: -1\r\n", b"X: " + b"x" * 9000 + b"\r\n", b"nonsense\r\n",
    b"Content-Type: multipart/mixed; boundary=y\r\n", b"Content-Disposition: attachment\r\n", b"\0: \xff\r\n",
])  # fmt: skip
FIELDS = st.dictionaries(
    st.sampled_from(["type", "subfolder", "overwrite", "original_ref", "file", "image", "_charset_", "", "x"]),
    FILE_NAMES,
    max_size=4,
)  # fmt: skip
REFS = st.fixed_dictionaries({}, optional={"filename": FILE_NAMES, "type": TEXT, "subfolder": FILE_NAMES}).map(
    json.dumps
)


def part(name, content, filename=None, headers=b""):
    """A part of a form with the boundary x."""
    said = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
    head = b"Content-Disposition: " + said.encode("utf-8", "surrogatepass") + b"\r\n" + headers
    return b"--x\r\n" + head + b"\r\n" + content + b"\r\n"


@st.composite
def forms(draw):
    """Bodies of uploads."""
    parts = [part(name, text.encode("utf-8", "surrogatepass")) for name, text in draw(FIELDS).items()]
    if draw(st.booleans()):
        parts.append(part("original_ref", draw(REFS).encode()))
    content = draw(one_of(PICTURES) | MUTANTS | st.binary(max_size=50))
    for name in draw(st.sampled_from([["image"], ["file"], ["image", "file"], []])):
        parts.append(part(name, content, draw(FILE_NAMES), draw(PART_HEADERS)))
    return b"".join(draw(st.permutations(parts))) + draw(
        one_of([b"--x--\r\n", b"", b"--x", b"--x--", b"\r\n--y--\r\n"])
    )


UPLOADS = st.sampled_from(["/upload/image", "/upload/mask", "/v1/uploads", "/v1/workflows/text_to_image/run",
                          "/v1/open"])  # fmt: skip
BOUNDARIES = one_of(["x", "x", "x", "x", '"x"', "y", "", "x" * 100, "\xff", '"', "x; boundary=y"])


@many(150)
@given(path=UPLOADS, body=forms() | forms().flatmap(bitten), boundary=BOUNDARIES)
def test_any_upload_is_answered(live, path, body, boundary):
    kind = f"multipart/form-data; boundary={boundary}"
    status, _ = live.ask("POST", path, body, Content_Type=kind)
    assert status in (200, 201, 202, 400, 403, 404, 409, 413, 415, 422)


@many(30)
@given(path=UPLOADS, body=forms(), more=st.integers(1, 10_000), at=st.integers(0, 2000))
def test_an_upload_that_breaks_off_leaves_nothing(live, path, body, more, at):
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    live.send(f"{head}Content-Length: {len(body) + more}\r\n\r\n".encode() + body[:at])


@many(60)
@given(content=one_of(PICTURES).flatmap(bitten), query=one_of([
    "", "&preview=webp;90", "&preview=jpeg;1", "&channel=a", "&channel=rgb", "&format=png&size=5", "&size=0",
    "&preview=",
    "&preview=;;;", "&quality=x", "&size=99999999999999999999", "&format=\u0661", "&preview=webp;\u0661",
]))  # fmt: skip
def test_any_picture_is_shown_or_refused(live, content, query):
    (live.folder / "home" / "input").mkdir(exist_ok=True)
    (live.folder / "home" / "input" / "bitten.png").write_bytes(content)
    live.ask("GET", f"/view?filename=bitten.png&type=input{quote(query, safe='&=')}")
    size = {"": "", "&size=0": "?size=0"}.get(query, "?format=webp&size=20")
    live.ask("GET", f"/v1/files/input/bitten.png{size}")
    live.ask("GET", "/v1/files/input/bitten.png?metadata=false")
    live.ask(
        "POST", "/v1/open", b'{"file": {"type": "input", "filename": "bitten.png"}}', Content_Type="application/json"
    )
    mask = part("image", content, "m.png") + part("original_ref", b'{"filename": "bitten.png", "type": "input"}')
    live.ask("POST", "/upload/mask", mask + b"--x--\r\n", Content_Type="multipart/form-data; boundary=x")


def test_pictures_that_are_bombs_are_refused(live):
    for form in ("PNG", "GIF", "TIFF", "WEBP", "BMP"):
        file = io.BytesIO()
        Image.new("L" if form in ("PNG", "GIF", "TIFF") else "RGB", (1001, 1000)).save(file, form)
        body = part("image", file.getvalue(), f"b.{form}") + b"--x--\r\n"
        kind = "multipart/form-data; boundary=x"
        assert live.ask("POST", "/upload/image", body, Content_Type=kind)[0] == 413
    wide = PNG.replace(PNG[16:33], _header(PNG[12:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + PNG[24:29]))
    body = part("image", wide, "w.png") + b"--x--\r\n"
    assert live.ask("POST", "/upload/image", body, Content_Type="multipart/form-data; boundary=x")[0] == 413


def _header(chunk):
    """The rest of a PNG's first chunk, with the right checksum."""
    return chunk[4:] + struct.pack(">I", zlib.crc32(chunk))


STEPS = one_of([
    "..", ".", "", "secret.txt", "beside", "out", "home", "server.sqlite", "etc", "passwd", "\0", "~", "...", "..;",
    ".. ",
    "..\0", "\uff0e\uff0e", "%2e%2e", "%252e%252e", "..%2f", "..%5c", "C:", "\\\\host", "file:", "a", "x" * 300,
    "\ud800",
    "output", "input", "..%00", "\u2025", "secret.txt [output]", "secret.txt [temp]", "*", "user", "default", "locks",
])  # fmt: skip


@st.composite
def wild_names(draw):
    """Names that try to lead elsewhere."""
    parts = draw(st.lists(STEPS, min_size=1, max_size=6)) + draw(st.sampled_from([["secret.txt"], []]))
    return draw(st.sampled_from(["", "/", "//", "\\"])) + draw(st.sampled_from(["/", "\\", "//", "/./"])).join(parts)


def spelt(name, how):
    """A name in a path or a query."""
    match how:
        case "quoted":
            return quote(name.encode("utf-8", "surrogatepass"), safe="")
        case "slashes":
            return quote(name.encode("utf-8", "surrogatepass"), safe="/\\:~;*")
        case _:
            return quote(quote(name.encode("utf-8", "surrogatepass"), safe=""), safe="")


PLACES = st.sampled_from([
    "GET /view?filename={}", "GET /view?filename=secret.txt&subfolder={}", "GET /view?filename={}&type=input",
    "GET /view?filename=a&type={}", "GET /view?filename={}&preview=webp", "GET /userdata/{}",
    "GET /userdata?dir={}&recurse=true",
    "GET /v2/userdata?path={}", "DELETE /userdata/{}", "POST /userdata/{}", "POST /userdata/{}/move/x.json",
    "POST /userdata/a/move/{}", "GET /v1/files/input/{}", "GET /v1/files/output/{}", "GET /v1/files/{}/secret.txt",
    "GET /view_metadata/{}?filename=a.safetensors", "GET /view_metadata/loras?filename={}.safetensors",
    "GET /experiment/models/preview/loras/0/{}", "GET /experiment/models/{}", "GET /models/{}",
    "GET /internal/files/{}",
    "GET /v1/workflows/{}", "PUT /v1/workflows/{}", "DELETE /v1/workflows/{}", "GET /v1/runs/{}", "GET /history/{}",
    "GET /object_info/{}", "GET /{}", "GET /v1/{}", "GET /api/{}", "GET /v1/docs/{}", "GET /settings/{}",
    "POST /settings/{}",
    "GET /v1/models/{}", "GET /v1/nodes/{}", "DELETE /v1/tokens/{}", "GET /api/jobs/{}", "GET /workflow_templates/{}",
    "GET /login?next={}", "GET /v1/outputs?search={}", "GET /v1/runs?search={}", "GET /ws?clientId={}",
    "GET /extensions/{}",
    "GET /v1/models/loras/{}", "GET /v1/models/checkpoints/{}/picture", "GET /v1/workflows/{}/picture",
    "GET /v1/workflows/{}/versions", "PUT /v1/drafts/{}", "GET /v1/drafts/{}",
])  # fmt: skip


@many(400)
@given(place=PLACES, name=wild_names(), how=st.sampled_from(["quoted", "slashes", "twice"]))
def test_no_name_leads_out_of_the_folders(live, place, name, how):
    method, _, path = place.partition(" ")
    body = json.dumps(DOCUMENT).encode() if method in ("POST", "PUT") else b""
    _, answer = live.ask(method, path.replace("{}", spelt(name, how)), body, Content_Type="application/json")
    assert b"root:" not in answer and b"SQLite format 3" not in answer


@many(40)
@given(name=wild_names(), kind=st.sampled_from(["image", "subfolder"]))
def test_no_upload_lands_outside_the_folders(live, name, kind):
    said = "" if kind == "image" else name
    body = part("image", PNG, name if kind == "image" else "a.png") + part(
        "subfolder", said.encode("utf-8", "surrogatepass")
    )
    for path in ("/upload/image", "/v1/uploads"):
        whole = (body if "v1" not in path else body.replace(b'name="image"', b'name="file"')) + b"--x--\r\n"
        live.ask("POST", path, whole, Content_Type="multipart/form-data; boundary=x")


@many(30)
@given(prefix=wild_names())
def test_no_node_saves_outside_the_folders(live, prefix):
    body = {"prompt": {"1": n("Word", text="a"), "2": n("Note", value=("1", 0), prefix=prefix)}}
    live.ask("POST", "/prompt", text_of(body), Content_Type="application/json")
