import json
from pathlib import Path

import pytest


def test_help_of_a_workflow_lists_its_inputs(place, phrase):
    code, out, _ = place("run", phrase, "--help")
    assert code == 0
    text = " ".join(out.split())
    assert "Says something." in text
    assert "inputs of phrase:" in text
    assert "--prompt TEXT What to say; 100% of it. (default hello)" in text
    assert "--mode NAME (one of plain, upper, lower; default plain)" in text
    assert "--no-loud" in text
    assert "--the-scale NUMBER (default 2.0)" in text
    assert text.index("--prompt") < text.index("--device")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "hello 2.0"), (["--prompt", "a cat"], "a cat 2.0"), (["--prompt=a=b"], "a=b 2.0"),
        (["--mode", "upper"], "HELLO 2.0"),
        (["--loud"], "hello! 2.0"), (["--loud", "true"], "hello! 2.0"), (["--loud", "--no-loud"], "hello 2.0"),
        (["--loud=no"], "hello 2.0"), (["--the-scale", "3"], "hello 3.0"), (["--the_scale", "-0.1"], "hello -0.1"),
        (["--prompt", "-blurry hands"], "-blurry hands 2.0"), (["--prompt", 'json:"@a"'], "@a 2.0"),
        (["--set", "prompt=dog"], "dog 2.0"), (["--set", "1.text=dog"], "dog 2.0"),
        (["--set", "My Phrase.text=dog"], "dog 2.0"),
        (["--set", "phrase.mode=upper"], "HELLO 2.0"), (["--set", "1.scale=json:4"], "hello 4.0"),
        (["--set", "1.text="], " 2.0"),
    ],
)  # fmt: skip
def test_values_reach_their_inputs(words, text, place, phrase):
    texts, ran = place.ran(phrase, "--target", "2", *words)
    assert texts == [text]
    assert ran == ["1", "2"]


def test_options_may_come_before_the_workflow(place, phrase):
    for words in (
        ["--prompt", "dog", "--target", "2", phrase],
        ["--loud", "--prompt", "dog", "--target", "2", phrase, "--no-loud"],
    ):
        texts, _ = place.ran(*words)
        assert texts == ["dog 2.0"]


def test_a_value_is_read_from_a_file(place, phrase):
    (place.root / "p.txt").write_text("a cat\non a mat\n")
    for words in (["--prompt", "@p.txt"], ["--set", "1.text=@p.txt"]):
        texts, _ = place.ran(phrase, "--target", "2", *words)
        assert texts == ["a cat\non a mat 2.0"]


def test_inputs_come_from_a_json_file_or_stdin_and_options_win(place, phrase):
    (place.root / "in.json").write_text(json.dumps({"prompt": "dog", "loud": True}))
    texts, _ = place.ran(phrase, "--target", "2", "--inputs", "in.json", "--prompt", "cat")
    assert texts == ["cat! 2.0"]
    code, found = place.json("run", phrase, "--target", "2", "--inputs", "-", stdin='{"prompt": "bird", "loud": false}')
    assert code == 0
    assert Path(found["files"][0]).read_text() == "bird 2.0"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--promt", "x"], "option --promt is unknown; did you mean '--prompt'?"),
        (["--mode", "uper"], "--mode: 'uper' does not fit; expected one of plain, upper, lower; did you mean 'upper'?"),
        (["--the-scale", "big"], "--the-scale: 'big' does not fit; expected number"),
        (["--the-scale", "nan"], "--the-scale: nan does not fit"),
        (["--loud", "maybe"], "--loud: 'maybe' does not fit; expected true or false"),
        (["--prompt"], "expected one argument"),
        (["extra"], "'extra' is one argument too many"),
        (["--prompt", "@nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["--set", "1.scale=json:{"], "not JSON"),
        (["--set", "text"], "expected ADDRESS=VALUE"),
        (["--set", "promt=x"], "did you mean 'prompt'?"),
        (["--set", "1.txt=x"], "node 1 (Phrase) has no input 'txt'; did you mean 'text'?"),
        (["--set", "My Phrese.text=x"], "no node 'My Phrese'; did you mean 'My Phrase'?"),
        (["--set", "SaveText.prefix=x"], "stands for several nodes: 2 (SaveText), 4 (SaveText)"),
        (["--set", "3.seed=101"], "--set 3.seed: 101 does not fit; expected whole number 0 to 100"),
        (["--set", "3.seed=1.5"], "--set 3.seed: 1.5 does not fit"),
        (["--set", "2.value=x"], "it is linked to node 1; --force replaces the link"),
        (["--inputs", "nowhere.json"], "cannot be read"),
        (["--seed", "x"], "--seed: 'x' does not fit; expected a whole number"),
        (["--seed", "101"], "--seed: 101 does not fit 3.seed; expected 0 to 100"),
        (["--seed", "1", "--randomize-seeds"], "give one of them"),
        (["--vram-limit", "lots"], "is no size"),
        (["--repeat", "0"], "expected a whole number from 1"),
        (["--timeout", "-1"], "expected seconds above 0"),
        (["--device", "cudda"], "did you mean 'cuda'?"),
        (["--dtype", "fp8"], "--dtype: invalid choice"),
        (["--stdout", "--json"], "not allowed with"),
        (["--stdout", "--repeat", "2"], "--stdout holds one picture"),
        (["--extra-model-paths", "nowhere.yaml"], "cannot be read"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line_are_told_and_nothing_runs(words, told, place, phrase):
    code, _, err = place("run", phrase, *words)
    assert (code, told in err) == (2, True), err
    assert not (place.home / "output").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"promt": "x"}', "did you mean 'prompt'?"), ("[1]", "expected a JSON object"), ("{", "not JSON at line 1")],
)
def test_mistakes_in_inputs_are_told(text, told, place, phrase):
    code, _, err = place("run", phrase, "--inputs", "-", stdin=text)
    assert code == 2
    assert told in err


def test_an_input_without_value_names_its_option(place, nodes_of):
    nodes = nodes_of(n1=("Add", {}), n2=("SaveText", {"value": ["1", 0]}))
    path = place.write(nodes, inputs={"first_part": {"bind": ["1.a"], "required": True, "doc": "The first."}})
    code, _, err = place("run", path)
    assert code == 2
    assert "input 'first_part' has no value; give --first-part (The first.)" in err
    assert place.ran(path, "--first-part", "3") == (["3"], ["1", "2"])


def test_set_replaces_a_link_when_forced(place, nodes_of):
    path = place.write(
        nodes_of(n1=("Number", {"value": 5}), n2=("Add", {"a": ["1", 0]}), n3=("SaveText", {"value": ["2", 0]}))
    )
    assert place.ran(path, "--set", "2.a=8", "--force") == (["8"], ["2", "3"])


def test_a_seed_sets_every_seed_where_none_is_declared(place, nodes_of):
    nodes = nodes_of(
        n1=("Seeded", {"seed": 7}),
        n2=("Seeded", {}),
        n3=("Add", {"a": ["1", 0], "b": ["2", 0]}),
        n4=("SaveText", {"value": ["3", 0]}),
    )
    path = place.write(nodes)
    assert place.ran(path)[0] == ["7"]
    assert place.ran(path, "--seed", "9")[0] == ["18"]


def test_a_seed_of_a_muted_node_is_none(place, nodes_of):
    nodes = nodes_of(n1=("Seeded", {"seed": 3}), n2=("Seeded", {"seed": 7}), n3=("SaveText", {"value": ["2", 0]}))
    nodes["1"]["mode"] = "mute"
    code, found = place.json("run", place.write(nodes))
    assert (code, found["runs"][0]["seed"], found["runs"][0]["ran"]) == (0, 7, ["2", "3"])


def test_a_declared_seed_is_set_alone(place, nodes_of):
    nodes = nodes_of(
        n1=("Seeded", {"seed": 7}),
        n2=("Seeded", {"seed": 1}),
        n3=("Add", {"a": ["1", 0], "b": ["2", 0]}),
        n4=("SaveText", {"value": ["3", 0]}),
    )
    path = place.write(nodes, inputs={"seed": {"bind": ["2.seed"]}})
    assert place.ran(path, "--seed", "9")[0] == ["16"]


def test_a_workflow_without_seed_says_that_a_seed_changes_nothing(place, nodes_of):
    path = place.write(nodes_of(n1=("Number", {}), n2=("SaveText", {"value": ["1", 0]})))
    code, _, err = place("run", path, "--seed", "3")
    assert code == 0
    assert "has no seed" in err


def test_repeated_runs_count_the_seeds_up_and_keep_what_does_not_change(place, nodes_of):
    nodes = nodes_of(
        n1=("Number", {"value": 100}),
        n2=("Seeded", {"seed": 99}),
        n3=("Add", {"a": ["1", 0], "b": ["2", 0]}),
        n4=("SaveText", {"value": ["3", 0]}),
    )
    code, found = place.json("run", place.write(nodes), "--repeat", "3")
    assert code == 0
    assert [Path(path).read_text() for path in found["files"]] == [
        "199",
        "200",
        "100",
    ]  # a seed of at most 100 begins again
    assert [run["seed"] for run in found["runs"]] == [99, 100, 0]
    assert [run["ran"] for run in found["runs"]] == [["1", "2", "3", "4"], ["2", "3", "4"], ["2", "3", "4"]]
    assert [run["cached"] for run in found["runs"]] == [[], ["1"], ["1"]]


def test_a_drawn_seed_is_told_and_gives_the_same_again(place, nodes_of):
    path = place.write(nodes_of(n1=("Seeded", {"seed": 7}), n2=("SaveText", {"value": ["1", 0]})))
    code, found = place.json("run", path, "--randomize-seeds")
    seed = found["runs"][0]["seed"]
    assert (code, Path(found["files"][0]).read_text()) == (0, str(seed))
    assert 0 <= seed <= 100
    code, again = place.json("run", path, "--seed", str(seed))
    assert (again["runs"][0]["ran"], again["files"]) == ([], found["files"])


def test_an_input_named_like_an_option_is_left_to_set(place, nodes_of):
    path = place.write(
        nodes_of(n1=("Phrase", {}), n2=("SaveText", {"value": ["1", 0]})), inputs={"device": {"bind": ["1.text"]}}
    )
    assert place.ran(path, "--device", "cpu", "--set", "device=moon")[0] == ["moon 1.0"]


def test_an_input_of_an_unknown_node_is_still_an_option(place, nodes_of):
    path = place.write(
        nodes_of(n1=("Numbre", {}), n2=("SaveText", {"value": ["1", 0]})), inputs={"value": {"bind": ["1.value"]}}
    )
    assert place("run", path, "--value", "3")[0] == 4


def test_a_file_from_elsewhere_is_copied_into_the_input_folder_once(place, nodes_of):
    path = place.write(
        nodes_of(n1=("ReadText", {"file": "x.png"}), n2=("SaveText", {"value": ["1", 0]})),
        inputs={"image": {"bind": ["1.file"]}},
    )
    folder = place.home / "input"
    folder.mkdir(parents=True)
    (folder / "cat.png").write_text("mine")
    (place.root / "cat.png").write_text("theirs")
    (place.root / "dog.png").write_text("dog")
    assert place.ran(path, "--image", "cat.png")[0] == ["theirs"]
    assert place.ran(path, "--set", "1.file=cat.png") == (["theirs"], [])
    assert place.ran(path, "--image", str(place.root / "dog.png"))[0] == ["dog"]
    assert place.ran(path, "--image", str(folder / "cat.png"))[0] == ["mine"]
    names = sorted(file.name for file in folder.iterdir())
    assert len(names) == 3
    assert [names[0][:4], *names[1:]] == ["cat-", "cat.png", "dog.png"]
    assert (folder / "cat.png").read_text() == "mine"


def test_a_document_cannot_name_a_file_from_elsewhere(place, nodes_of):
    (place.root / "cat.png").write_text("cat")
    path = place.write(
        nodes_of(n1=("ReadText", {"file": str(place.root / "cat.png")}), n2=("SaveText", {"value": ["1", 0]}))
    )
    code, _, err = place("run", path)
    assert code != 0
    assert "is not the name of a file inside the input folder" in err


def test_a_model_from_elsewhere_is_not_copied(place, nodes_of):
    path = place.write(nodes_of(n1=("Weights", {"name": "x"}), n2=("SaveText", {"value": ["1", 0]})))
    (place.root / "style.safetensors").write_bytes(b"abc")
    code, _, err = place("run", path, "--set", "1.name=style.safetensors")
    assert code == 2
    assert "name its root with --models" in err
    folder = place.root / "shelf" / "loras"
    folder.mkdir(parents=True)
    (folder / "style.safetensors").write_bytes(b"abc")
    for name in ("style.safetensors", str(folder / "style.safetensors")):
        assert place("run", path, "--set", f"1.name={name}", "--models", "shelf")[0] == 0
