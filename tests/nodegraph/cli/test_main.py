import json

import pytest

from nodegraph import __version__
from nodegraph.cli import main


def test_nothing_prints_help(capsys):
    assert main([]) == 0
    assert "usage: nodegraph VERB" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nodegraph {__version__}\n"


@pytest.mark.parametrize(("word", "nearest"), [("rnu", "'run'"), ("chekc", "'check'"), ("--verison", "'--version'")])
def test_unknown_verb_names_the_nearest(word, nearest, capsys):
    assert main([word]) == 2
    assert f"did you mean {nearest}?" in capsys.readouterr().err


def test_a_file_in_place_of_a_verb_suggests_run(place, nodes_of, capsys):
    path = place.write(nodes_of(n1=("Number", {})))
    assert main([path]) == 2
    assert f"`nodegraph run {path}`" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "plan", "check", "inputs", "nodes", "models"])
def test_every_verb_has_help(verb, place):
    code, out, err = place(verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: nodegraph {verb} ")
    assert "--node-path" in out


@pytest.mark.parametrize("verb", ["run", "plan", "check", "inputs"])
def test_a_verb_without_its_workflow_is_a_usage_error(verb, place):
    code, out, err = place(verb)
    assert (code, out) == (2, "")
    assert "which workflow?" in err


def test_an_unexpected_error_is_one_sentence_and_a_traceback_with_v(place, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr("nodegraph.cli.catalog.Session", broken)
    code, _, err = place("nodes")
    assert code == 5
    assert err.count("\n") == 1
    assert "unexpected RuntimeError: boom" in err
    code, _, err = place("nodes", "-v")
    assert code == 5
    assert "Traceback" in err


def test_check_tells_every_problem_on_a_line(place, nodes_of):
    path = place.write(nodes_of(
        n1=("Number", {"value": 2000}), n2=("Add", {"a": ["1", 0], "b": ["9", 0]}), n3=("SaveText", {"value": ["2", 5]})
    ))  # fmt: skip
    code, out, _ = place("check", path)
    assert code == 3
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "node 1 (Number) value", "node 2 (Add) b", "node 3 (SaveText) value",
    ]  # fmt: skip
    assert "expected a whole number from 0 up to 1000" in out
    code, found = place.json("check", path)
    assert (code, found["valid"], found["exit_code"], len(found["problems"])) == (3, False, 3, 3)
    assert found["problems"][0]["node"] == "1"


def test_check_of_a_sound_workflow(place, phrase):
    assert place("check", phrase) == (0, "phrase: no problems\n", "")
    assert place.json("check", phrase) == (0, {"workflow": "phrase", "valid": True, "exit_code": 0, "problems": []})


def test_check_tells_missing_nodes_and_models_apart_from_mistakes(place, nodes_of):
    missing = nodes_of(n1=("Weights", {"name": "style.safetensors"}), n2=("SaveText", {"value": ["1", 0]}))
    requires = {"models": [{"name": "style.safetensors", "sources": ["https://example.org/style.safetensors"]}]}
    code, out, _ = place("check", place.write(missing, requires=requires))
    assert code == 4
    assert "'style.safetensors' is not among the loras" in out
    assert "get it from https://example.org/style.safetensors" in out
    code, out, _ = place("check", place.write(nodes_of(n1=("Numbre", {}), n2=("SaveText", {"value": ["1", 0]}))))
    assert code == 4
    assert "did you mean 'Number'?" in out
    both = nodes_of(
        n1=("Numbre", {}),
        n2=("Add", {"a": "x"}),
        n3=("SaveText", {"value": ["2", 0]}),
        n4=("SaveText", {"value": ["1", 0]}),
    )
    assert place("check", place.write(both))[0] == 3


def test_check_does_not_blame_a_template_for_what_the_user_must_give(place, nodes_of):
    nodes = nodes_of(n1=("Add", {}), n2=("SaveText", {"value": ["1", 0]}))
    assert place("check", place.write(nodes, inputs={"a": {"bind": ["1.a"], "required": True}}))[0] == 0
    assert place("check", place.write(nodes, inputs={"a": {"bind": ["1.a"]}}))[0] == 3


def test_check_tells_a_declared_input_that_binds_nothing(place, nodes_of):
    nodes = nodes_of(n1=("Number", {}), n2=("SaveText", {"value": ["1", 0]}))
    code, out, _ = place("check", place.write(nodes, inputs={"a": {"bind": ["1.valeu"]}}))
    assert code == 3
    assert "inputs.a binds '1.valeu', which Number does not have" in out


def test_what_is_no_file_is_a_usage_error(place):
    code, _, err = place("check", "nowhere.json")
    assert code == 2
    assert "there is no workflow 'nowhere.json'" in err


def test_what_is_no_json_is_an_invalid_workflow(place):
    (place.root / "broken.json").write_text("{,}")
    code, out, _ = place("check", "broken.json")
    assert code == 3
    assert "not JSON at line 1, column 2" in out


def test_errors_are_json_when_asked_for(place):
    code, found = place.json("run", "nowhere.json")
    assert code == 2
    assert (found["status"], found["exit_code"], found["runs"], found["files"]) == ("usage", 2, [], [])
    assert "there is no workflow" in found["message"]


def test_a_workflow_may_come_from_stdin_as_a_bare_api_graph(place, nodes_of):
    nodes = nodes_of(n1=("Number", {"value": 5}), n2=("SaveText", {"value": ["1", 0]}))
    assert place("check", "-", stdin=json.dumps(nodes))[0] == 0
    code, found = place.json("run", "-", stdin=json.dumps(nodes))
    assert (code, found["runs"][0]["ran"]) == (0, ["1", "2"])


def test_inputs_lists_types_ranges_and_defaults(place, phrase):
    code, out, _ = place("inputs", phrase)
    assert code == 0
    assert out.splitlines() == [
        "prompt: text; default hello. What to say; 100% of it.", "mode: one of plain, upper, lower; default plain",
        "loud: true or false; default false", "the_scale: number; default 2.0",
    ]  # fmt: skip


def test_inputs_as_json_schema(place, nodes_of):
    nodes = nodes_of(
        n1=("Number", {"value": 5}),
        n2=("Add", {"a": ["1", 0]}),
        n3=("SaveText", {"value": ["2", 0]}),
        n4=("Phrase", {}),
    )
    inputs = {"value": {"bind": ["1.value"]}, "b": {"bind": ["2.b"], "required": True}, "mode": {"bind": ["4.mode"]}}
    code, found = place.json("inputs", place.write(nodes, doc="Adds.", inputs=inputs))
    assert code == 0
    assert found == {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "title": "wf",
        "description": "Adds.",
        "properties": {
            "value": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 5, "description": "Which one."},
            "b": {"type": "integer"},
            "mode": {"type": "string", "enum": ["plain", "upper", "lower"], "default": "plain"},
        },
        "required": ["b"], "additionalProperties": False,
    }  # fmt: skip


def test_inputs_of_a_workflow_without_any_shows_what_set_can_reach(place, nodes_of):
    path = place.write(
        nodes_of(n1=("Number", {"value": 5}), n2=("Add", {"a": ["1", 0]}), n3=("SaveText", {"value": ["2", 0]}))
    )
    code, out, err = place("inputs", path)
    assert code == 0
    assert "declares no inputs" in err
    assert [line.partition(":")[0] for line in out.splitlines()] == ["1.value", "2.b", "3.prefix"]


def test_nodes_lists_by_category_and_shows_a_page(place):
    code, out, _ = place("nodes")
    assert code == 0
    assert "\ntest/maths\n" in out
    assert "  Add " in out
    code, out, _ = place("nodes", "Number")
    assert code == 0
    assert "value: whole number 0 to 1000; default 1" in out
    assert "Which one." in out
    assert "0 INT: INT" in out
    code, found = place.json("nodes", "Add")
    assert code == 0
    assert found["inputs"]["a"]["required"] is True
    assert found["outputs"] == [{"name": "INT", "port": "INT", "is_list": False}]


def test_nodes_names_the_nearest_of_an_unknown_one(place):
    code, _, err = place("nodes", "Numbre")
    assert code == 2
    assert "did you mean 'Number'?" in err


def test_a_node_file_that_does_not_load_is_told_and_leaves_the_others(place):
    (place.root / "nodes" / "broken.py").write_text("import nothing_of_this_name")
    code, out, err = place("nodes", "Number")
    assert code == 0
    assert "Number" in out
    assert "broken.py did not load" in err


def test_a_missing_node_folder_is_a_usage_error(place):
    code, _, err = place("nodes", "--node-path", "nowhere")
    assert code == 2
    assert "does not exist" in err


def test_models_are_listed_hashed_and_located(place):
    folder = place.root / "shelf" / "style_models"
    folder.mkdir(parents=True)
    (folder / "style.safetensors").write_bytes(b"abc")
    root = ["--models", str(place.root / "shelf")]
    code, found = place.json("models", "list", "style_models", *root)
    assert (code, found) == (
        0,
        [{"kind": "style_models", "name": "style.safetensors", "path": str(folder / "style.safetensors"), "bytes": 3}],
    )
    for name in ("style.safetensors", "style_models/style.safetensors", str(folder / "style.safetensors")):
        code, found = place.json("models", "hash", name, *root)
        assert code == 0
        assert found["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert len(found["content"]) == 64
    code, out, _ = place("models", "where", "style_models", *root)
    assert code == 0
    assert f"style_models: {folder}\n" in out
    assert f"style_models: {place.home / 'models' / 'style_models'} (not there)\n" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lits"], "did you mean 'list'?"), (["list", "lora"], "did you mean 'loras'?"), (["hash"], "which model?"),
        (["hash", "x"], "no model 'x'"), (["where", "lora"], "did you mean 'loras'?"),
    ],
)  # fmt: skip
def test_models_suggests_what_was_meant(words, told, place):
    code, out, err = place("models", *words)
    assert (code, out) == (2, "")
    assert told in err
