import errno
import json
import os
import re
from pathlib import Path

import pytest

from nodegraph.cli.arguments import size


@pytest.fixture
def adding(place, nodes_of):
    nodes = nodes_of(
        n1=("Number", {"value": 2}), n2=("Add", {"a": ["1", 0], "b": 3}), n3=("SaveText", {"value": ["2", 0]})
    )
    return place.write(nodes, "adding")


def test_the_path_goes_to_stdout_and_the_summary_to_stderr(place, adding):
    code, out, err = place("run", adding)
    assert code == 0
    assert Path(out.strip()).read_text() == "5"
    assert Path(out.strip()).parent == place.home / "output"
    assert re.fullmatch(r"ran 3, cached 0, unneeded 0 in \d+\.\d s\n", err)


def test_a_run_that_is_at_hand_says_so_and_names_the_file(place, adding):
    first = place("run", adding)[1]
    code, out, err = place("run", adding)
    assert (code, out) == (0, first)
    assert err == f"nothing had to run: 1 cached, 2 unneeded; already there: {first}"


def test_quiet_leaves_the_path_alone(place, adding):
    code, out, err = place("run", adding, "-q")
    assert (code, out.count("\n"), err) == (0, 1, "")


def test_no_cache_runs_everything_again(place, adding):
    place("run", adding)
    code, found = place.json("run", adding, "--no-cache")
    assert (code, found["runs"][0]["ran"]) == (0, ["1", "2", "3"])


def test_explain_tells_why_each_node_ran(place, adding):
    assert "1 (Number)     ran 0.00 s: first run" in place("run", adding, "--explain")[2]
    err = place("run", adding, "--set", "2.b=4", "--explain")[2]
    assert "2 (Add)        ran 0.00 s: b changed from 3 to 4" in err
    err = place("run", adding, "--set", "2.b=4", "--explain")[2]
    assert "3 (Save Text)  cached: disk" in err
    assert "1 (Number)     unneeded" in err


def test_json_holds_what_ran_and_what_was_saved(place, adding):
    code, found = place.json("run", adding)
    (run,) = found["runs"]
    assert (code, found["status"], found["exit_code"], found["workflow"]) == (0, "success", 0, "adding")
    assert (run["ran"], run["cached"], run["unneeded"], run["errors"]) == (["1", "2", "3"], [], [], [])
    assert found["files"] == [run["files"][0]["path"]]
    assert run["files"][0]["is_cached"] is False
    assert run["nodes"][1] | {"seconds": 0, "nbytes": 0} == {
        "node": "2", "class_type": "Add", "title": "Add", "state": "ran", "why": "first run", "tier": None,
        "seconds": 0, "nbytes": 0, "notes": [],
    }  # fmt: skip
    _, found = place.json("run", adding)
    (run,) = found["runs"]
    assert (run["ran"], run["cached"], run["unneeded"]) == ([], ["3"], ["1", "2"])
    assert run["files"][0]["is_cached"] is True


def test_what_a_node_has_to_say_is_told_on_stderr_and_in_json_also_from_the_cache(place, nodes_of):
    nodes = nodes_of(n1=("Picky", {"a": 3}), n2=("SaveText", {"value": ["1", 0]}))
    nodes["1"]["_meta"] = {"title": "Load LoRA"}
    name = place.write(nodes)
    assert "note: Load LoRA (1): 3 of 9 tensors match nothing\n" in place("run", name)[2]
    _, found = place.json("run", name, "--no-cache")
    assert [node["notes"] for node in found["runs"][0]["nodes"]] == [["3 of 9 tensors match nothing"], []]


def test_json_stream_is_a_line_for_each_event_and_a_result(place, adding):
    code, out, _ = place("run", adding, "--json-stream")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["type"] for line in lines] == [
        "RunStarted", "NodeStarted", "NodeFinished", "NodeStarted", "NodeFinished", "NodeStarted",
        "Saved", "NodeFinished",
        "RunFinished", "Result",
    ]  # fmt: skip
    assert lines[-1]["runs"][0]["ran"] == ["1", "2", "3"]


def test_a_dry_run_tells_the_plan_and_runs_nothing(place, adding):
    place("run", adding)
    code, out, err = place("run", adding, "--dry-run", "--set", "2.b=4")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "1 (Number)     will run: its result was not kept on disk",
        "2 (Add)        will run: b changed from 3 to 4",
        "3 (Save Text)  will run: value changed upstream (node 2)", "3 nodes: 3 will run",
    ]  # fmt: skip
    assert len(list((place.home / "output").iterdir())) == 1
    assert place("plan", adding, "--set", "2.b=4")[1] == out


def test_the_plan_of_a_cached_run(place, adding):
    place("run", adding)
    code, found = place.json("plan", adding)
    assert code == 0
    assert [(node["node"], node["state"], node["detail"]) for node in found["nodes"]] == [
        ("1", "unneeded", ""), ("2", "unneeded", ""), ("3", "cached", "disk"),
    ]  # fmt: skip
    assert found["targets"] == ["3"]
    for file in (place.home / "output").iterdir():
        file.unlink()
    _, found = place.json("plan", adding)
    assert [node["state"] for node in found["nodes"]] == ["will_run"] * 3
    assert "is gone or was changed" in found["nodes"][2]["detail"]


def test_the_plan_tells_equal_work_and_what_a_switch_decides(place, nodes_of):
    path = place.write(nodes_of(
        n1=("Number", {"value": 2}), n2=("Number", {"value": 2}),
        n3=("Choose", {"first": True, "a": ["1", 0], "b": ["4", 0]}), n4=("Number", {"value": 9}),
        n5=("Add", {"a": ["3", 0], "b": ["2", 0]}), n6=("SaveText", {"value": ["5", 0]}),
        n7=("SaveText", {"value": ["2", 0]}), n8=("SaveText", {"value": ["1", 0], "prefix": "other"}),
    ))  # fmt: skip
    code, found = place.json("plan", path)
    states = {node["node"]: (node["state"], node["detail"]) for node in found["nodes"]}
    assert code == 0
    assert states["3"] == ("will_run", "it chooses what runs")
    assert {states[key][0] for key in "456"} == {"decided_at_run_time"}
    assert sorted([states["1"], states["2"]]) == [("same_as", "2"), ("will_run", "first run")]
    code, found = place.json("run", path)
    assert [node for node in found["runs"][0]["unneeded"]] == ["4"]


def test_the_plan_lists_models(place, nodes_of):
    folder = place.home / "models" / "loras"
    folder.mkdir(parents=True)
    (folder / "style.safetensors").write_bytes(b"abc")
    path = place.write(nodes_of(n1=("Weights", {"name": "style.safetensors"}), n2=("SaveText", {"value": ["1", 0]})))
    code, found = place.json("plan", path)
    (model,) = found["models"]
    assert code == 0
    assert (model["kind"], model["name"], model["nbytes"], model["nodes"]) == ("loras", "style.safetensors", 3, ["1"])


def test_targets_run_alone(place, adding):
    code, found = place.json("run", adding, "--target", "2")
    assert (code, found["runs"][0]["ran"], found["files"]) == (0, ["1", "2"], [])
    code, _, err = place("run", adding, "--target", "22")
    assert code == 3
    assert "target '22' is not in it" in err


def test_plain_outputs_are_written(place, nodes_of):
    nodes = nodes_of(n1=("Number", {"value": 2}), n2=("Add", {"a": ["1", 0], "b": 3}))
    path = place.write(nodes, outputs={"sum": "2.INT"})
    assert place("run", path)[:2] == (0, "5\n")
    assert place.json("run", path)[1]["runs"][0]["outputs"] == {"sum": 5}
    path = place.write(nodes, outputs={"sum": "2.INT", "first": "1.INT"})
    assert place("run", path)[1] == "sum: 5\nfirst: 2\n"


def test_stdout_without_a_picture_fails(place, adding):
    code, out, err = place("run", adding, "--stdout")
    assert (code, out) == (5, "")
    assert "there is no picture for stdout" in err


def test_a_failing_node_is_told_in_a_sentence(place, nodes_of):
    nodes = nodes_of(
        n1=("Fails", {"a": 4}),
        n2=("SaveText", {"value": ["1", 0]}),
        n3=("Number", {}),
        n4=("SaveText", {"value": ["3", 0]}),
    )
    path = place.write(nodes)
    code, out, err = place("run", path)
    assert code == 5
    assert err.splitlines()[0] == "nodegraph: node 1 (Fails): 4 is not a colour"
    assert "Traceback" not in err
    assert "ran 2, cached 0, unneeded 0, 1 failed, 1 could not run" in err
    assert out.count("\n") == 1  # the branch that does not need it is saved
    code, _, err = place("run", path, "-v")
    assert code == 5
    assert "a = 4" in err
    assert 'raise ValueError(f"{a} is not a colour")' in err
    code, found = place.json("run", path)
    (run,) = found["runs"]
    assert (code, found["status"], run["status"], run["cached"]) == (5, "error", "error", ["4"])
    assert [(error["node"], error["message"]) for error in run["errors"]] == [("1", "4 is not a colour")]
    assert [node["state"] for node in run["nodes"]] == ["failed", "blocked", "unneeded", "cached"]


def test_repeats_end_at_the_first_failure(place, nodes_of):
    path = place.write(nodes_of(n1=("Fails", {"a": 4}), n2=("SaveText", {"value": ["1", 0]})))
    code, found = place.json("run", path, "--repeat", "3")
    assert (code, len(found["runs"])) == (5, 1)


def test_out_of_memory_has_its_own_code(place, nodes_of):
    path = place.write(nodes_of(n1=("Hungry", {}), n2=("SaveText", {"value": ["1", 0]})))
    code, _, err = place("run", path)
    assert code == 6
    assert "node 1 (Hungry): out of memory: MemoryError: 8 GB" in err
    assert place.json("run", path)[1]["status"] == "out_of_memory"


def test_missing_and_invalid_have_their_own_codes(place, nodes_of):
    assert place("run", place.write(nodes_of(n1=("Numbre", {}), n2=("SaveText", {"value": ["1", 0]}))))[0] == 4
    code, _, err = place("run", place.write(nodes_of(n1=("Add", {"a": "x"}), n2=("SaveText", {}))))
    assert code == 3
    assert err == "nodegraph: node 2 (SaveText) value: is missing; expected a value of type *\n"


def test_a_run_that_takes_too_long_is_cancelled(place, nodes_of):
    path = place.write(nodes_of(n1=("Endless", {}), n2=("SaveText", {"value": ["1", 0]})))
    code, _, err = place("run", path, "--timeout", "0.2")
    assert code == 7
    assert "timed out after 0.2 s" in err
    code, found = place.json("run", path, "--timeout", "0.2")
    assert (code, found["status"], found["runs"][0]["ran"]) == (7, "timeout", [])


def test_a_full_disk_is_one_sentence_and_the_cache_stays_usable(place, nodes_of):
    nodes = nodes_of(n1=("Number", {}), n2=("FullDisk", {"value": ["1", 0]}), n3=("SaveText", {"value": ["1", 0]}))
    path = place.write(nodes)
    code, _, err = place("run", path)
    assert code == 5
    assert "No space left on device; nothing was saved there" in err
    assert "Traceback" not in err
    code, found = place.json("run", path, "--target", "3")
    assert (code, found["runs"][0]["cached"]) == (0, ["3"])


def test_an_output_folder_that_cannot_be_written_is_one_sentence(place, adding):
    (place.root / "file").write_text("")
    code, out, err = place("run", adding, "--output-dir", str(place.root / "file"))
    assert (code, out) == (5, "")
    assert "cannot be written" in err
    assert "Traceback" not in err
    assert place("run", adding)[0] == 0


def test_a_cache_that_cannot_be_opened_is_a_warning(place, adding):
    (place.root / "file").write_text("")
    code, _, err = place("run", adding, "--cache-dir", str(place.root / "file"))
    assert code == 0
    assert err.count("WARNING: the cache in") == 1


def test_an_input_folder_that_cannot_be_written_is_one_sentence(place, nodes_of, monkeypatch):
    path = place.write(nodes_of(n1=("ReadText", {"file": "x"}), n2=("SaveText", {"value": ["1", 0]})))
    (place.root / "cat.png").write_text("cat")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("nodegraph.cli.values.shutil.copyfile", full)
    code, _, err = place("run", path, "--set", "1.file=cat.png")
    assert code == 5
    assert "No space left on device" in err
    assert list((place.home / "input").iterdir()) == []


def test_progress_lines_where_there_is_no_terminal(place, nodes_of, monkeypatch):
    path = place.write(nodes_of(n1=("Steps", {"count": 3}), n2=("SaveText", {"value": ["1", 0]})))
    monkeypatch.setattr("nodegraph.cli.report.LINE_SECONDS", 0.0)
    err = place("run", path)[2]
    lines = [line for line in err.splitlines() if "step" in line]
    assert lines[0] == "Steps: step 1 of 3"
    assert re.fullmatch(r"Steps: step 2 of 3, [\d.]+ it/s, \d+ s left", lines[1])
    assert re.fullmatch(r"Steps: step 3 of 3, [\d.]+ it/s, 0 s left", lines[2])
    assert place("run", path, "-q", "--no-cache")[2] == ""


def test_a_progress_bar_on_a_terminal(place, nodes_of, monkeypatch):
    path = place.write(nodes_of(n1=("Steps", {"count": 3}), n2=("SaveText", {"value": ["1", 0]})))
    monkeypatch.setattr("nodegraph.cli.terminal.Terminal.is_interactive", True)
    err = place("run", path)[2]
    assert "Steps:  33%" in err
    assert "1/3" in err


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("6GB", 6 * 10**9),
        ("6 GiB", 6 << 30),
        ("512m", 512 << 20),
        ("1.5K", 1536),
        ("1000", 1000),
        ("7B", 7),
        ("2mb", 2 * 10**6),
    ],
)
def test_sizes_have_units(text, nbytes):
    assert size(text) == nbytes
