"""The runs there were: paged, searched, and forgotten by their owners."""

from __future__ import annotations

import asyncio

import pytest

from nodegraph.errors import NodegraphError
from server.history import History
from server.records import Draft, Ending, FileRecord
from server.runs import Runs
from server.store import Store


class Place:
    """Runs over a database, asked from outside any event loop."""

    def __init__(self, folder):
        self.store = Store(folder / "a.sqlite")
        self.runs = Runs(self.store, queue_limit=1000, history_limit=1000)

    def __getattr__(self, name):
        return lambda *args, **kwargs: asyncio.run(getattr(self.runs, name)(*args, **kwargs))

    def put(self, id, status="success", files=(), events=(), **rest):
        self.submit(Draft(**{"graph": "{}", "id": id, **rest}))
        if status == "queued":
            return
        assert self.lease("w").id == id
        if status != "running":
            self.finish(id, Ending(status, None, {}, {}, [], [], events, files))

    def found(self, **query):
        return [run.id for run in self.page(**query).records]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.store.close()


def file(name):
    return FileRecord("9", "output", "", name, "png", 3)


def test_pages_follow_on_each_other_both_ways_and_count_all(place):
    for number in range(7):
        place.put(str(number))
    for is_oldest_first, order in ((False, "6543210"), (True, "0123456")):
        seen, after, pages = [], None, 0
        while True:
            page = place.page(limit=3, after=after, is_oldest_first=is_oldest_first)
            assert page.total == 7
            seen += [run.id for run in page.records]
            pages += 1
            if page.next is None:
                break
            after = page.next
        assert ("".join(seen), pages) == (order, 3)
    assert place.page(limit=7).next is None
    assert place.found(limit=1) == ["6"]


def test_a_page_goes_on_where_it_was_though_runs_come_and_go(place):
    for number in range(6):
        place.put(str(number))
    first = place.page(limit=2)
    place.put("new")
    place.delete([first.records[-1].id, "2"])
    assert place.found(limit=2, after=first.next) == ["3", "1"]


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 19, "1 or 1", " 1", "²"])
def test_a_cursor_that_is_none_is_told(place, cursor):
    with pytest.raises(NodegraphError, match="is none of ours; take `next` of the page before"):
        place.page(after=cursor)


def test_lists_are_narrowed_by_status_client_and_name(place):
    place.put("a", name="one", client="c")
    place.put("b", "error", name="two", client="c")
    place.put("c", "cancelled", name="one", client="d")
    place.put("d", "running", name="one")
    place.put("e", "queued", name="one", client="c")
    assert place.found(statuses=["success"]) == ["a"]
    assert place.found(statuses=["error", "cancelled"]) == ["c", "b"]
    assert place.found(client="c") == ["e", "b", "a"]
    assert place.found(name="one", client="c") == ["e", "a"]
    assert place.found(name="none") == []
    assert place.page(statuses=["queued"]).total == 1
    assert place.counts() == {"queued": 1, "running": 1, "success": 1, "error": 1, "cancelled": 1}
    assert place.unfinished() == {"d", "e"}


def test_searches_find_every_word_in_name_id_and_texts(place):
    place.put("first", name="Sea at Night", words="ksampler a red boat")
    place.put("second", name="Hills", words="ksampler green 100% hills_")
    assert place.found(search="ksampler") == ["second", "first"]
    assert place.found(search="  BOAT  red ") == ["first"]
    assert place.found(search="night ksampler") == ["first"]
    assert place.found(search="second") == ["second"]
    assert place.found(search="boat green") == []
    assert place.found(search="100%") == ["second"]
    assert place.found(search="%") == ["second"]
    assert place.found(search="s_") == ["second"]
    assert place.found(search="' or 1 --") == []


@pytest.mark.parametrize(
    ("field", "value", "search"),
    [("name", "ÄPFEL", "äpfel"), ("name", "Äpfel", "ÄPFEL"), ("name", "Straße", "strasse"),
     ("id", "Run-ABC", "run-abc"),
     ("id", "Run-ABC", "ABC"), ("name", "МОРЕ", "море")],
)  # fmt: skip
def test_searches_do_not_mind_capitals_in_any_language(place, field, value, search):
    place.put(**{"id": "x", field: value})
    assert len(place.found(search=search)) == 1


def test_lists_leave_out_what_is_long(place):
    place.put("a", graph='{"1": 2}', document='{"nodegraph": 1}', files=[file("a.png")])
    (run,) = place.page().records
    assert (run.graph, run.document, run.files) == ("", None, [file("a.png")])
    assert place.get("a").graph == '{"1": 2}'


def test_finished_runs_are_forgotten_and_their_files_told(place):
    place.put("a", files=[file("1.png"), file("2.png")])
    place.put("b", "error", files=[file("3.png")])
    place.put("c", "queued")
    assert place.delete(["a", "c", "unknown"]) == [file("1.png"), file("2.png")]
    assert place.get("a") is None
    assert place.get("c").status == "queued"
    assert not place.is_used(file("1.png"))
    assert place.is_used(file("3.png"))
    assert place.delete(None) == [file("3.png")]
    assert [run.id for run in place.page().records] == ["c"]
    assert place.delete(None) == []


def test_an_owner_forgets_its_own_runs_alone(place):
    place.put("mine", owner="me", files=[file("1.png")])
    place.put("yours", owner="you", files=[file("2.png")])
    assert place.delete(["mine", "yours"], owner="me") == [file("1.png")]
    assert place.delete(None, owner="me") == []
    assert place.get("yours") is not None


def test_a_run_that_is_running_is_not_forgotten(place):
    place.put("a", "running")
    assert place.delete(None) == []
    assert place.finish("a", Ending("success", None, {}, {}, [], [], [], []))


def test_events_of_a_run_are_kept_with_it(place):
    events = [[1_000_001, {"type": "RunStarted"}], [1_000_002, {"type": "NodeStarted", "node": "ü"}]]
    place.put("a", events=events)
    place.put("b", "queued")
    assert place.events("a") == events
    assert place.events("b") == place.events("unknown") == []


def test_an_unknown_run_is_none(place):
    assert place.get("unknown") is None
    assert asyncio.run(History(place.store).get("unknown")) is None
