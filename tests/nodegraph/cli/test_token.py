import asyncio
import json
import os
import sqlite3

import pytest

from nodegraph.cli import main
from server.auth import Caller, Tokens
from server.store import Store


@pytest.fixture
def token(tmp_path, capsys):
    """Runs `nodegraph token` -> (exit code, stdout, stderr)."""

    def run(*words):
        capsys.readouterr()
        code = main(["token", *words, "--home", str(tmp_path / "home")])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def found(tmp_path, secret):
    """Whom a server with this home finds by a secret."""
    store = Store(tmp_path / "home" / "server.sqlite")
    try:
        return asyncio.run(Tokens(store).find(secret))
    finally:
        store.close()


def test_add_shows_the_secret_once_and_the_server_knows_it(token, tmp_path):
    code, out, err = token("add", "ci", "--scope", "edit", "--rate", "2.5", "--max-upload", "20MB")
    assert code == 0
    assert out.startswith("ng_")
    assert "nothing can show it again" in err
    secret = out.strip()
    assert secret not in err
    assert found(tmp_path, secret) == Caller("ci", frozenset({"edit"}), 2.5, 20_000_000)
    assert secret not in "".join(token("list")[1:])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_home_that_is_made_for_a_token_is_closed_to_others(token, tmp_path):
    token("add", "ci")
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0


def test_a_token_may_only_run_unless_told_otherwise(token, tmp_path):
    secret = token("add", "ci")[1].strip()
    assert found(tmp_path, secret) == Caller("ci", frozenset({"run"}))


def test_list_shows_scope_limits_and_use(token, tmp_path):
    token("add", "b", "--scope", "admin")
    secret = token("add", "a", "--rate", "3", "--max-upload", "1MB")[1].strip()
    found(tmp_path, secret)
    code, out, _ = token("list")
    first, second = out.splitlines()
    assert code == 0
    assert first.startswith("a  run; 3 requests a second; requests up to 1.00 MB; made ")
    assert "last used" in first
    assert second.startswith("b  admin; made ")
    assert "never used" in second


def test_list_is_what_no_action_does_and_makes_nothing(token, tmp_path):
    code, out, err = token()
    assert (code, out) == (0, "")
    assert "no tokens; nodegraph token add NAME makes one" in err
    assert not (tmp_path / "home").exists()


def test_json_has_all_but_the_secret(token):
    _, out, _ = token("add", "ci", "--json")
    added = json.loads(out)
    assert (added["name"], added["scope"]) == ("ci", "run")
    rows = json.loads(token("list", "--json")[1])
    assert [(row["name"], row["scopes"], row["rate"], row["used"]) for row in rows] == [("ci", ["run"], None, None)]
    assert added["token"] not in json.dumps(rows)
    assert json.loads(token("revoke", "ci", "--json")[1]) == {"name": "ci", "revoked": True}


def test_revoke_takes_a_token_away(token, tmp_path):
    secret = token("add", "ci")[1].strip()
    code, out, _ = token("revoke", "ci")
    assert (code, out) == (0, "token 'ci' is revoked\n")
    assert found(tmp_path, secret) is None


def test_tokens_change_while_the_server_runs(token, tmp_path):
    store = Store(tmp_path / "home" / "server.sqlite")
    now = [0.0]
    tokens = Tokens(store, lambda: now[0])
    try:
        assert asyncio.run(tokens.find("ng_none")) is None
        secret = token("add", "ci")[1].strip()
        now[0] += 1
        assert asyncio.run(tokens.find(secret)).name == "ci"
        assert token("revoke", "ci")[0] == 0
        now[0] += 1
        assert asyncio.run(tokens.find(secret)) is None
    finally:
        store.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add"], "token add: which name?"),
        (["revoke"], "token revoke: which name?"),
        (["revoke", "ci"], "no token 'ci'; see nodegraph token list"),
        (["list", "ci"], "'ci' is one argument too many"),
        (["ad", "ci"], "token ad: expected add, list or revoke; did you mean 'add'?"),
        (["add", "a b"], "expected 1 to 64 letters, digits"),
        (["add", "ci", "--scope", "root"], "invalid choice: 'root'"),
        (["add", "ci", "--rate", "0"], "'0' is no rate"),
        (["add", "ci", "--rate", "nan"], "'nan' is no rate"),
        (["add", "ci", "--max-upload", "big"], "'big' is no size"),
        (["add", "ci", "--scop", "run"], "did you mean '--scope'?"),
    ],
)
def test_a_wrong_command_is_a_sentence(token, words, message):
    code, out, err = token(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_name_is_taken_once_and_a_near_one_is_named(token):
    assert token("add", "laptop")[0] == 0
    code, _, err = token("add", "laptop")
    assert code == 2
    assert "there is one of that name" in err
    assert "did you mean 'laptop'?" in token("revoke", "labtop")[2]


def test_a_file_that_is_no_database_is_told(token, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "server.sqlite").write_text("not a database, but long enough to be read as one" * 20)
    code, _, err = token("add", "ci")
    assert code == 5
    assert "server.sqlite cannot be used" in err


def test_a_newer_schema_is_left_alone(token, tmp_path):
    token("add", "ci")
    database = sqlite3.connect(tmp_path / "home" / "server.sqlite")
    database.execute("pragma user_version = 999")
    database.close()
    code, _, err = token("list")
    assert code == 5
    assert "update nodegraph" in err


def test_help(token):
    code, out, err = token("--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: nodegraph token ")
    assert "--scope" in out
