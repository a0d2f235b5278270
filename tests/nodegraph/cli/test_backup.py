import json

import pytest

from nodegraph.cli.arguments import UsageError
from nodegraph.cli.backup import backup, restore
from nodegraph.cli.terminal import Terminal
from nodegraph.errors import FileProblem
from server.store import Store


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    for name in ("workflows/a.json", "output/a.png"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(name)
    Store(home / "server.sqlite").close()
    monkeypatch.setenv("NODEGRAPH_HOME", str(home))
    return home


def test_a_backup_and_its_restore_into_another_home(home, tmp_path, capsys):
    assert backup(["b.tar"], Terminal()) == 0
    assert capsys.readouterr().out.startswith("b.tar: 2 files, ")
    assert restore(["b.tar", "--home", str(tmp_path / "new")], Terminal()) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'new'}: restored 2 files, ")
    assert (tmp_path / "new" / "workflows" / "a.json").read_text() == "workflows/a.json"
    assert not (tmp_path / "new" / "output").exists()


def test_outputs_and_json(home, tmp_path, capsys):
    assert backup(["b.tar.gz", "--outputs", "--home", str(home), "--json"], Terminal()) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["path"], found["files"]) == (str(tmp_path / "b.tar.gz"), 3)
    assert restore(["b.tar.gz", "--home", "new", "--json"], Terminal()) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["home"], found["files"], found["replaced"]) == (str(tmp_path / "new"), 3, None)
    assert (tmp_path / "new" / "output" / "a.png").exists()


def test_force_tells_where_the_old_things_are(home, capsys):
    backup(["b.tar"], Terminal())
    with pytest.raises(FileProblem, match="--force to replace them"):
        restore(["b.tar"], Terminal())
    capsys.readouterr()
    assert restore(["b.tar", "--force"], Terminal()) == 0
    (kept,) = (path for path in home.iterdir() if path.name.startswith("replaced-"))
    assert f"what was there is in {kept}; delete that" in capsys.readouterr().out
    assert (kept / "workflows" / "a.json").exists()


@pytest.mark.parametrize("verb", [backup, restore])
def test_help_and_a_missing_file(verb, capsys):
    assert verb(["--help"], Terminal()) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: nodegraph {verb.__name__} FILE")
    assert "--home" in text
    with pytest.raises(UsageError, match=f"{verb.__name__}: which file"):
        verb([], Terminal())
    with pytest.raises(UsageError, match="did you mean '--home'"):
        verb(["x", "--hom", "y"], Terminal())
