"""The server keeps to its OpenAPI document, whatever is sent: schemathesis against `nodegraph serve` and its worker.

Left out are `/v1/events`, which never ends, `/v1/socket`, and the events of a run that is not over.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request

import pytest

from tests.server.working import PATIENCE, Process, n

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method",
    "use_after_free",
)  # fmt: skip
EMPTY_LISTS = """
[[operations]]  # an empty list as a field of a form is sent as no field at all, which is as it should be
include-operation-id = "upload_picture"
checks.negative_data_rejection.enabled = false
"""
FOUND = (
    "GET /v1/runs/{id}", "GET /v1/runs/{id}/events", "GET /v1/runs/{id}/wait", "GET /v1/runs/{id}/workflow",
    "POST /v1/runs/{id}/cancel", "GET /v1/workflows/{name}", "GET /v1/workflows/{name}/schema",
    "PUT /v1/workflows/{name}", "GET /v1/workflows/{name}/versions", "GET /v1/workflows/{name}/versions/{id}",
    "POST /v1/workflows/{name}/run", "GET /v1/nodes/{name}", "GET /v1/models/{kind}", "GET /v1/models/{kind}/{name}",
    "GET /v1/drafts/{id}", "GET /v1/files/{type}/{path}",
)  # fmt: skip
DOCUMENT = {
    "nodegraph": 1,
    "nodes": {"1": n("Word", text="a"), "2": n("Note", value=("1", 0)), "3": n("Steps", value=("1", 0))},
    "inputs": {"text": {"bind": ["1.text"]}},
    "outputs": {"word": "3.0"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = Process(tmp_path_factory.mktemp("server"))
    process.start()
    yield process
    process.close()


def hold(server, folder, *options, config=""):
    """Runs schemathesis, which ends with 0 where the server held what it says."""
    (folder / "schemathesis.toml").write_text(EMPTY_LISTS + config)
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run",
             f"{server.address}v1/openapi.json", "--generation-deterministic", "--no-color",
             "--checks", ",".join(CHECKS), "--continue-on-failure",
             "--request-timeout", "30", "--suppress-health-check", "all", *options]  # fmt: skip
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{server.log()}"
    assert server.ask("GET", "/healthz") == (200, {"status": "ok"})
    assert not {row for row in statuses(server) if row[2] >= "500"}
    return done.stdout


def known(server):
    """A run, a file and a workflow that are there -> parameters of paths, by tag."""
    status, run = server.ask("POST", "/v1/runs", {"workflow": DOCUMENT})
    assert status == 202, run
    status, run = server.ask("GET", f"/v1/runs/{run['id']}/wait?timeout={PATIENCE:g}")
    assert (status, run["status"]) == (200, "success"), run
    assert server.ask("PUT", "/v1/workflows/known", DOCUMENT)[0] == 201
    assert server.ask("DELETE", "/v1/workflows/known")[0] == 204
    assert server.ask("PUT", "/v1/workflows/known", DOCUMENT)[0] == 201
    status, versions = server.ask("GET", "/v1/workflows/known/versions")
    assert server.ask("PUT", "/v1/drafts/known", {"document": DOCUMENT})[0] == 201
    file = run["files"][0]
    return {
        "runs": {"id": run["id"]},
        "events": {"id": run["id"]},
        "workflows": {"name": "known", "id": versions["versions"][0]["id"]},
        "drafts": {"id": "known"},
        "catalog": {"name": "Word"},
        "models": {"kind": "checkpoints", "name": "starter.safetensors"},
        "files": {"type": file["type"], "path": file["filename"]},
    }


def statuses(server):
    """Methods, routes and statuses of what was answered so far."""
    with urllib.request.urlopen(f"{server.address}metrics", timeout=PATIENCE) as answer:
        figures = answer.read().decode()
    return set(re.findall(r'nodegraph_http_requests_total\{method="(.*)",route="(.*)",status="(.*)"\}', figures))


@pytest.mark.parametrize(
    "tags", [("runs", "workflows", "catalog", "files"), ("queue", "drafts", "models", "system", "tokens")]
)
def test_strange_requests_get_only_documented_answers(server, tmp_path, tags):
    told = hold(
        server, tmp_path, "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "20",
        *(word for tag in tags for word in ("--include-tag", tag)),
    )  # fmt: skip
    assert server.ask("POST", "/v1/queue/resume")[0] == 200
    assert "Fuzzing" in told


def test_requests_for_what_is_there_get_only_documented_answers(server, tmp_path):
    config = "".join(
        f"[[operations]]\ninclude-tag = {json.dumps(tag)}\nparameters = {{ "
        + ", ".join(f"{json.dumps('path.' + name)} = {json.dumps(value)}" for name, value in given.items())
        + " }\n"
        for tag, given in known(server).items()
    )
    hold(
        server, tmp_path, "--phases", "coverage,fuzzing", "--max-examples", "10", "--include-path-regex", "[{]",
        "--exclude-method", "DELETE", "--exclude-tag", "tokens", config=config,
    )  # fmt: skip
    figures = statuses(server)
    for operation in FOUND:
        assert (*operation.split(), "200") in figures, f"{operation} never found what is there"
