import json
import os
import signal
import subprocess
import sys
from io import BytesIO

import pytest
from PIL import Image

HEAVY = ("torch", "numpy", "PIL", "networkx", "transformers", "diffusers", "tqdm", "yaml")


@pytest.mark.parametrize(
    "command",
    [
        "--help", "run --help", "run text_to_image --help", "check text_to_image", "plan text_to_image", "nodes",
        "run text_to_image --dry-run", "inputs text_to_image", "run text_to_image --steps x",
    ],
)  # fmt: skip
def test_nothing_heavy_is_imported_before_a_run(command, tmp_path):
    words = command.split()
    program = (
        f"import sys; from nodegraph.cli import main; main({words!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    env = {**os.environ, "NODEGRAPH_HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
    assert found.stderr.splitlines()[-1] == "[]", found.stderr


def until(process, kind):
    """Reads events up to one of this type."""
    for line in process.stdout:
        if json.loads(line)["type"] == kind:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_at_the_next_step(number, place, nodes_of):
    path = place.write(nodes_of(n1=("Endless", {}), n2=("SaveText", {"value": ["1", 0]})))
    with place.process("run", path, "--json-stream") as process:
        until(process, "NodeProgress")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    result = json.loads(out.splitlines()[-1])
    assert process.returncode == 7
    assert (result["type"], result["status"], result["runs"][0]["ran"]) == ("Result", "cancelled", [])
    assert "nodegraph: cancelled" in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_a_second_signal_leaves_at_once(place, nodes_of):
    path = place.write(nodes_of(n1=("Stubborn", {}), n2=("SaveText", {"value": ["1", 0]})))
    with place.process("run", path, "--json-stream") as process:
        until(process, "NodeProgress")
        process.send_signal(signal.SIGINT)
        assert "stopping at the next step" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 7


@pytest.mark.parametrize("words", [["nodes"], ["models", "where"], ["--help"]])
def test_a_reader_that_leaves_is_no_error(words, place):
    with subprocess.Popen(
        [sys.executable, "-m", "nodegraph", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_run_whose_events_nobody_reads_is_cancelled(place, nodes_of):
    path = place.write(nodes_of(n1=("Endless", {}), n2=("SaveText", {"value": ["1", 0]})))
    with place.process("run", path, "--json-stream") as process:
        until(process, "NodeProgress")
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 7
    assert "Traceback" not in err


def test_stdout_gets_the_declared_picture_and_no_file_is_saved(place, nodes_of):
    nodes = nodes_of(n1=("Picture", {"level": 0.5}), n2=("SaveText", {"value": ["1", 0]}))
    path = place.write(nodes, outputs={"image": "1.IMAGE"})
    command = [sys.executable, "-m", "nodegraph", "run", path, "--stdout", *place.common]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    with Image.open(BytesIO(content)) as picture:
        assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((3, 2), "RGB", (127, 127, 127))
    assert not (place.home / "output").exists()
    (place.root / "again.png").write_bytes(content)
    assert place("check", "again.png") == (0, "wf: no problems\n", "")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_home_is_one_sentence(place, nodes_of):
    path = place.write(nodes_of(n1=("Number", {}), n2=("SaveText", {"value": ["1", 0]})))
    place.home.mkdir()
    place.home.chmod(0o500)
    code, _, err = place("run", path)
    assert code == 5
    assert "cannot be written: Permission denied" in err
    assert "Traceback" not in err
