"""ComfyUI's routes through a whole server: shapes, errors, and the order of what a WebSocket hears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections import Counter

import pytest
from aiohttp import WSMsgType

from nodegraph.errors import StorageError
from tests.server.working import PATIENCE, TINY_JPEG, at_work, n, no_torch

PAIR = {"1": n("Word", text="x"), "9": n("Note", value=("1", 0))}
LONG = {"1": n("Word", text="x"), "2": n("Steps", value=("1", 0), steps=2), "9": n("Note", value=("2", 0))}


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Workers that start without torch."""
    monkeypatch.setenv("PYTHONPATH", str(no_torch(tmp_path)))


def served(test, folder, **changes):
    """Runs a test against a whole server."""

    async def main():
        async with at_work(folder, **changes) as place:
            return await test(place)

    return asyncio.run(main())


class Ears:
    """A client of the WebSocket: the JSON messages and the pictures it heard."""

    def __init__(self, ws):
        self.ws, self.heard, self.frames = ws, [], []

    async def next(self):
        message = await asyncio.wait_for(self.ws.receive(), PATIENCE)
        if message.type is WSMsgType.BINARY:
            self.frames.append(message.data)
            return "frame", message.data
        assert message.type is WSMsgType.TEXT, message
        found = json.loads(message.data)
        assert set(found) == {"type", "data"}
        self.heard.append((found["type"], found["data"]))
        return self.heard[-1]

    async def until(self, test):
        while not test(*(found := await self.next())):
            pass
        return found

    async def over(self, run):
        """Listens until a run is over, as the examples of ComfyUI's API do."""
        await self.until(lambda kind, data: kind == "executing" and data == {"node": None, "prompt_id": run})

    def of(self, run):
        return [(kind, data) for kind, data in self.heard if data.get("prompt_id") == run]

    def kinds(self, run):
        return [kind for kind, _ in self.of(run)]


@contextlib.asynccontextmanager
async def listening(place, query="?clientId=me"):
    async with place.client.ws_connect(f"/ws{query}") as ws:
        yield Ears(ws)


# POST /prompt


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_prompt_is_answered_queued_and_found_in_the_history(tmp_path, prefix):
    async def test(place):
        status, answer = await place.ask("POST", f"{prefix}/prompt", json={"prompt": PAIR, "client_id": "me"})
        assert status == 200
        assert answer == {"prompt_id": answer["prompt_id"], "number": 0, "node_errors": {}}
        await place.over(answer["prompt_id"])
        return answer["prompt_id"], (await place.ask("GET", f"{prefix}/history/{answer['prompt_id']}"))[1]

    run, history = served(test, tmp_path)
    assert list(history) == [run]
    entry = history[run]
    assert set(entry) == {"prompt", "outputs", "status", "meta"}
    number, id, graph, extra, outputs = entry["prompt"]
    assert (number, id, graph, extra["client_id"], outputs) == (0, run, PAIR, "me", ["9"])
    assert entry["outputs"] == {"9": {"files": [{"filename": "note_00001_.txt", "subfolder": "", "type": "output"}]}}
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("success", True)
    kinds = [kind for kind, _ in entry["status"]["messages"]]
    assert kinds == ["execution_start", "execution_cached", "execution_success"]
    assert all(data["prompt_id"] == run and data["timestamp"] > 1e12 for _, data in entry["status"]["messages"])
    assert entry["meta"] == {"9": {"node_id": "9", "display_node": "9", "parent_node": None, "real_node_id": "9"}}


def test_numbers_count_up_and_front_and_given_ones_are_as_in_comfyui(tmp_path):
    async def test(place):
        await place.service.runs.pause(True)
        numbers = []
        for rest in ({}, {}, {"front": True}, {"number": 7}, {"number": 1.5}, {"front": True}, {}):
            status, answer = await place.ask("POST", "/prompt", json={"prompt": PAIR, **rest})
            assert status == 200, answer
            numbers.append(answer["number"])
        queue = (await place.ask("GET", "/queue"))[1]
        return numbers, [item[0] for item in queue["queue_pending"]]

    numbers, pending = served(test, tmp_path)
    assert numbers == [0, 1, -1, 7, 1.5, -2, 2]
    assert pending == sorted(numbers)


def test_an_id_may_be_chosen_once(tmp_path):
    async def test(place):
        await place.service.runs.pause(True)
        first = await place.ask("POST", "/prompt", json={"prompt": PAIR, "prompt_id": "mine"})
        second = await place.ask("POST", "/prompt", json={"prompt": PAIR, "prompt_id": "mine"})
        return first, second, (await place.ask("GET", "/prompt"))[1]

    first, second, remaining = served(test, tmp_path)
    assert (first[0], first[1]["prompt_id"]) == (200, "mine")
    assert second[0] == 400
    assert second[1]["error"]["type"] == "invalid_prompt"
    assert "there is a run 'mine' already" in second[1]["error"]["details"]
    assert remaining == {"exec_info": {"queue_remaining": 1}}


@pytest.mark.parametrize("id", ["..", ".", "", "a/b", "../x", "/", "\0", "a\nb", 7, ["x"], "x" * 201, "\ud800"])
def test_an_id_that_is_no_name_is_refused_and_touches_no_file(tmp_path, id):
    kept = tmp_path / "home" / "output" / "kept.png"
    kept.parent.mkdir(parents=True)
    kept.write_text("x")

    async def test(place):
        body = json.dumps({"prompt": PAIR, "prompt_id": id})
        status, answer = await place.ask("POST", "/prompt", data=body, headers={"Content-Type": "application/json"})
        if status == 200:
            await place.over(answer["prompt_id"])
        return status, answer

    status, answer = served(test, tmp_path)
    assert kept.exists(), "the end of the run took the output folder with it"
    assert status == 400
    assert answer["error"]["type"] == "invalid_prompt"


@pytest.mark.parametrize("id", ["x" * 200, "字" * 200, "a b", "run:1", ".hidden", "ü", "\\..\\x"])
def test_an_id_of_any_kind_saves_its_files(tmp_path, id):
    async def test(place):
        return await place.over(await place.prompt(PAIR, prompt_id=id))

    record = served(test, tmp_path)
    assert (record.status, record.id, len(record.files)) == ("success", id, 1), record.error


BAD = [
    (b"", "invalid_prompt"), (b"{", "invalid_prompt"), (b"[]", "invalid_prompt"), (b"\xff", "invalid_prompt"),
    (b"[" * 100_000, "invalid_prompt"), (b"{}", "no_prompt"), (b'{"prompt": null}', "no_prompt"),
    (b'{"prompt": {}}', "no_prompt"), (b'{"prompt": {"1": {"inputs": {}}}}', "invalid_prompt"),
    (b'{"prompt": {"1": 7}}', "invalid_prompt"),
    (b'{"prompt": {"1": {"class_type": "Unknown", "inputs": {}}}}', "invalid_prompt"),
    (b'{"prompt": {"1": {"class_type": "Word", "inputs": {}}}}', "prompt_no_outputs"),
    (b'{"prompt": {"1": {"class_type": "Note", "inputs": {}}}}', "prompt_outputs_failed_validation"),
    (b'{"prompt": {"1": {"class_type": "Note", "inputs": {"value": "x"}}}, "number": "abc"}', "invalid_prompt"),
    (b'{"prompt": {"1": {"class_type": "Note", "inputs": {}}}, "number": 1' + b"0" * 400 + b"}", "invalid_prompt"),
    (b'{"prompt": {"1": {"class_type": "Note", "inputs": {"value": "x"}}}, "number": NaN}', "invalid_prompt"),
    (b'{"prompt": {"1": {"class_type": "Note", "inputs": {"value": "x"}}}, "number": 1e300}', "invalid_prompt"),
]  # fmt: skip


def test_what_is_no_sound_prompt_is_refused_in_comfyuis_shape(tmp_path):
    async def test(place):
        return [(await place.ask("POST", "/prompt", data=body), type) for body, type in BAD]

    for (status, answer), type in served(test, tmp_path):
        assert status == 400
        assert set(answer) == {"error", "node_errors"}
        assert set(answer["error"]) == {"type", "message", "details", "extra_info"}
        assert (answer["error"]["type"], bool(answer["error"]["message"])) == (type, True)


def test_the_errors_of_a_node_are_told_with_its_outputs(tmp_path):
    async def test(place):
        graph = {"1": n("Slow", value="x", ms="soon"), "9": n("Note", value=("1", 0))}
        return await place.ask("POST", "/prompt", json={"prompt": graph})

    status, answer = served(test, tmp_path)
    assert (status, answer["error"]["type"]) == (400, "prompt_outputs_failed_validation")
    node = answer["node_errors"]["1"]
    assert (node["class_type"], node["dependent_outputs"]) == ("Slow", ["9"])
    (error,) = node["errors"]
    assert set(error) == {"type", "message", "details", "extra_info"}
    assert error["type"] == "invalid_input_type" and error["extra_info"]["input_name"] == "ms"


def test_outputs_that_are_sound_run_although_others_are_not(tmp_path):
    async def test(place):
        graph = {**PAIR, "2": n("Slow", value="x", ms="soon"), "8": n("Note", value=("2", 0))}
        status, answer = await place.ask("POST", "/prompt", json={"prompt": graph})
        assert status == 200, answer
        assert set(answer["node_errors"]) == {"2"}
        assert answer["node_errors"]["2"]["dependent_outputs"] == ["8"]
        return (await place.over(answer["prompt_id"])), answer

    record, _ = served(test, tmp_path)
    assert (record.status, record.targets, list(record.outputs)) == ("success", ("9",), ["9"])


def test_only_the_targets_that_are_asked_for_run(tmp_path):
    graph = {**PAIR, "8": n("Note", value="y")}

    async def test(place):
        one = await place.over(await place.prompt(graph, partial_execution_targets=["8"]))
        wrong = [
            await place.ask("POST", "/prompt", json={"prompt": graph, "partial_execution_targets": targets})
            for targets in (["1"], ["unknown"], [])
        ]
        return one, wrong

    one, wrong = served(test, tmp_path)
    assert (one.targets, list(one.outputs)) == (("8",), ["8"])
    for status, answer in wrong:
        assert (status, answer.get("error", {}).get("type")) == (400, "prompt_no_outputs")


def test_a_full_queue_says_so(tmp_path):
    async def test(place):
        await place.service.runs.pause(True)
        return [await place.ask("POST", "/prompt", json={"prompt": PAIR}) for _ in range(3)]

    answers = served(test, tmp_path, queue_limit=2)
    assert [status for status, _ in answers] == [200, 200, 429]
    assert answers[2][1]["error"]["type"] == "queue_full"


def test_a_disk_that_cannot_be_written_is_no_fault_of_the_prompt(tmp_path, monkeypatch):
    async def full(*_, **__):
        raise StorageError("the database cannot be written: database or disk is full; free some space and try again")

    async def test(place):
        monkeypatch.setattr(place.service.runs, "submit", full)
        return await place.ask("POST", "/prompt", json={"prompt": PAIR})

    status, answer = served(test, tmp_path)
    assert (status, answer["error"]["type"]) == (507, "storage")
    assert answer["error"]["message"] == "the database cannot be written: database or disk is full"
    assert answer["error"]["details"] == "free some space and try again"


def test_secrets_are_not_kept(tmp_path):
    secret = {"auth_token_comfy_org": "s3cret", "api_key_comfy_org": "s3cret", "extra_pnginfo": {"workflow": {"a": 1}}}

    async def test(place):
        run = await place.prompt(PAIR, extra_data=secret)
        await place.over(run)
        texts = [(await place.ask("GET", path))[1] for path in ("/queue", "/history", f"/v1/runs/{run}")]
        return json.dumps(texts)

    assert "s3cret" not in served(test, tmp_path)
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "body",
    [
        '{"prompt": {"1": {"class_type": "Note", "inputs": {"value": "x", "more": %s}}}}',
        '{"prompt": {"1": {"class_type": "Note", "inputs": {"value": "x"}, "_meta": {"x": %s}}}}',
        '{"prompt": {"1": {"class_type": "Note", "inputs": {"value": "x"}}}, "extra_data": {"x": %s}}',
    ],
)
def test_what_is_no_json_for_a_browser_does_not_hide_the_queue_and_the_history(tmp_path, body, value):
    """`JSON.parse` takes no NaN: one such value would spoil the answer with everybody's runs in it."""

    def refuse(name):
        raise AssertionError(f"{name} in JSON")

    async def test(place):
        status, answer = await place.ask("POST", "/prompt", data=(body % value).encode())
        texts = []
        if status == 200:
            await place.over(answer["prompt_id"])
        for path in ("/queue", "/history"):
            async with place.client.get(path) as found:
                texts.append(await found.text())
        return status, texts

    status, texts = served(test, tmp_path)
    assert status in (200, 400)
    for text in texts:
        json.loads(text, parse_constant=refuse)


# The queue


def test_the_queue_has_five_values_for_each_run(tmp_path):
    async def test(place):
        running = await place.prompt({**PAIR, "9": n("Note", value=("2", 0)),
                                      "2": n("Wait", value=("1", 0), file=str(tmp_path / "go"))},
                                     client_id="a")  # fmt: skip
        await place.until(lambda: place.service.dispatcher.running() == [running])
        waiting = [await place.prompt(PAIR, client_id="b", extra_data={"k": 1}) for _ in range(3)]
        queue = (await place.ask("GET", "/api/queue"))[1]
        remaining = (await place.ask("GET", "/prompt"))[1]
        for body in ({"delete": [waiting[1], "unknown", running, 7]}, {"delete": "x"}, {}):
            assert await place.ask("POST", "/queue", json=body) == (200, "")
        left = (await place.ask("GET", "/queue"))[1]
        assert await place.ask("POST", "/queue", json={"clear": True}) == (200, "")
        cleared = (await place.ask("GET", "/queue"))[1]
        bad = await place.ask("POST", "/queue", data=b"{")
        (tmp_path / "go").touch()
        await place.over(running)
        return running, waiting, queue, remaining, left, cleared, bad, (await place.ask("GET", "/queue"))[1]

    running, waiting, queue, remaining, left, cleared, bad, empty = served(test, tmp_path)
    assert set(queue) == {"queue_running", "queue_pending"}
    assert [item[1] for item in queue["queue_running"]] == [running]
    assert [item[1] for item in queue["queue_pending"]] == waiting
    number, id, graph, extra, outputs = queue["queue_pending"][0]
    assert (number, id, graph, extra, outputs) == (1, waiting[0], PAIR, {"k": 1, "client_id": "b"}, ["9"])
    assert remaining == {"exec_info": {"queue_remaining": 4}}
    assert [item[1] for item in left["queue_pending"]] == [waiting[0], waiting[2]]
    assert (cleared["queue_pending"], len(cleared["queue_running"])) == ([], 1)
    assert bad[0] == 400
    assert empty == {"queue_running": [], "queue_pending": []}


@pytest.mark.parametrize("body", [None, b"", b"not json", b"{}", "its id"])
def test_an_interrupt_stops_what_runs(tmp_path, body):
    async def test(place):
        graph = {**PAIR, "2": n("Wait", value=("1", 0), file=str(tmp_path / "never")), "9": n("Note", value=("2", 0))}
        async with listening(place) as ears:
            run = await place.prompt(graph, client_id="me")
            await place.until(lambda: run in place.service.dispatcher.running())
            assert await place.ask("POST", "/interrupt", json={"prompt_id": "another"}) == (200, "")
            assert run in place.service.dispatcher.running()
            await ears.until(lambda kind, data: kind == "executing" and data["node"] == "2")
            content = json.dumps({"prompt_id": run}).encode() if body == "its id" else body
            assert await place.ask("POST", "/interrupt", data=content) == (200, "")
            await ears.over(run)
            return run, (await place.ask("GET", f"/history/{run}"))[1][run], ears.of(run)

    run, entry, heard = served(test, tmp_path)
    assert (entry["status"]["status_str"], entry["status"]["completed"]) == ("error", False)
    kind, data = entry["status"]["messages"][-1]
    assert kind == "execution_interrupted"
    assert {name: data[name] for name in ("prompt_id", "node_id", "node_type", "executed")} == {
        "prompt_id": run, "node_id": "2", "node_type": "Wait", "executed": ["1"],
    }  # fmt: skip
    assert [kind for kind, _ in heard[-2:]] == ["execution_interrupted", "executing"]
    assert "execution_success" not in [kind for kind, _ in heard]


# The history


def test_the_history_is_paged_from_both_ends_and_forgotten(tmp_path):
    async def test(place):
        ids = []
        for number in range(5):
            ids.append(await place.prompt({"1": n("Note", value=str(number))}))
            await place.over(ids[-1])
        found = {}
        for query in ("", "?max_items=2", "?max_items=2&offset=0", "?max_items=2&offset=3", "?offset=4", "?max_items=x",
                      "?max_items=0", "?max_items=99", "?max_items=2&offset=-1", f"?max_items={10**30}"):  # fmt: skip
            found[query] = [ids.index(run) for run in (await place.ask("GET", f"/history{query}"))[1]]
        unknown = (await place.ask("GET", "/history/unknown"))[1]
        assert await place.ask("POST", "/history", json={"delete": [ids[1], "unknown"]}) == (200, "")
        left = list((await place.ask("GET", "/history"))[1])
        assert await place.ask("POST", "/history", json={"clear": True}) == (200, "")
        return ids, found, unknown, left, (await place.ask("GET", "/history"))[1]

    ids, found, unknown, left, cleared = served(test, tmp_path)
    assert found == {
        "": [0, 1, 2, 3, 4], "?max_items=2": [3, 4], "?max_items=2&offset=0": [0, 1], "?max_items=2&offset=3": [3, 4],
        "?offset=4": [4], "?max_items=x": [0, 1, 2, 3, 4], "?max_items=0": [], "?max_items=99": [0, 1, 2, 3, 4],
        "?max_items=2&offset=-1": [3, 4], f"?max_items={10**30}": [0, 1, 2, 3, 4],
    }  # fmt: skip
    assert unknown == {} and cleared == {}
    assert left == [ids[0], *ids[2:]]
    assert len(list((tmp_path / "home" / "output").glob("*.txt"))) == 5  # the files stay


def test_a_run_that_is_not_over_is_not_in_the_history(tmp_path):
    async def test(place):
        await place.service.runs.pause(True)
        run = await place.prompt(PAIR)
        before = (await place.ask("GET", f"/history/{run}"))[1], (await place.ask("GET", "/history"))[1]
        await place.ask("POST", "/history", json={"delete": [run], "clear": True})
        return before, (await place.service.runs.get(run)).status

    assert served(test, tmp_path) == (({}, {}), "queued")


# What the server is


def test_the_server_tells_of_itself(tmp_path):
    async def test(place):
        await place.until(lambda: place.service.dispatcher.workers()[0].state == "idle")
        paths = ("/features", "/system_stats", "/prompt", "/object_info/Note", "/object_info/Unknown", "/readyz")
        found = {path: await place.ask("GET", path) for path in paths}
        assert {path: status for path, (status, _) in found.items()} == dict.fromkeys(paths, 200)
        async with place.client.get("/object_info") as answer:
            every, tag = await answer.json(), answer.headers["ETag"]
        again = await place.ask("GET", "/api/object_info", headers={"If-None-Match": tag})
        return {path: body for path, (_, body) in found.items()}, every, again

    found, every, again = served(test, tmp_path)
    assert found["/features"] == {"supports_preview_metadata": True, "max_upload_size": 100 << 20}
    assert found["/prompt"] == {"exec_info": {"queue_remaining": 0}}
    assert found["/object_info/Unknown"] == {}
    assert found["/object_info/Note"] == {"Note": every["Note"]}
    assert (every["Note"]["output_node"], every["Note"]["name"]) == (True, "Note")
    assert again[0] == 304
    stats = found["/system_stats"]
    assert set(stats) == {"system", "devices"}
    names = {"os", "ram_total", "ram_free", "comfyui_version", "required_frontend_version", "python_version",
             "installed_templates_version", "required_templates_version", "pytorch_version", "embedded_python",
             "argv"}  # fmt: skip
    assert names <= set(stats["system"])
    (device,) = stats["devices"]
    assert set(device) == {
        "name", "type", "index", "vram_total", "vram_free", "torch_vram_total", "torch_vram_free",
    }  # fmt: skip
    assert (device["name"], device["type"], device["index"]) == ("cpu", "cpu", 0)
    assert str(tmp_path) not in json.dumps(stats)


@pytest.mark.parametrize("body", [{"unload_models": True, "free_memory": True}, {"free_memory": True}, {}, None])
def test_memory_is_let_go_of_on_request(tmp_path, body):
    async def test(place):
        assert await place.ask("POST", "/free", json=body) == (200, "")
        return await place.over(await place.prompt(PAIR))

    assert served(test, tmp_path).status == "success"


# The WebSocket


def test_a_run_is_told_in_comfyuis_order(tmp_path):
    async def test(place):
        async with listening(place) as ears:
            assert await ears.next() == ("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"})
            first = await place.prompt(LONG, client_id="me")
            await ears.over(first)
            assert list((await place.ask("GET", f"/history/{first}"))[1]) == [first]  # the history has it by then
            second = await place.prompt(LONG, client_id="me")
            await ears.over(second)
            return first, second, ears

    first, second, ears = served(test, tmp_path)
    kinds = [
        (kind, data.get("node")) if kind in ("executing", "executed", "progress") else (kind, None)
        for kind, data in ears.of(first)
        if kind != "progress_state"
    ]
    assert kinds == [
        ("execution_start", None), ("execution_cached", None), ("executing", "1"), ("executing", "2"),
        ("progress", "2"),
        ("progress", "2"), ("executing", "9"), ("executed", "9"), ("execution_success", None), ("executing", None),
    ]  # fmt: skip
    every = ears.of(first)
    for index, (kind, data) in enumerate(every):
        if kind == "executing" and data["node"] is not None:
            node = data["node"]
            assert data == {"node": node, "display_node": node, "prompt_id": first}
            before, state = every[index - 1]
            assert before == "progress_state"
            assert state["nodes"][node] == {
                "value": 0, "max": 1, "state": "running", "node_id": node, "prompt_id": first, "display_node_id": node,
                "parent_node_id": None, "real_node_id": node,
            }  # fmt: skip
    finished = [
        node for kind, data in every if kind == "progress_state"
        for node, row in data["nodes"].items() if row["state"] == "finished"
    ]  # fmt: skip
    assert list(dict.fromkeys(finished)) == ["1", "2", "9"]
    assert [data for kind, data in every if kind == "progress"] == [
        {"value": value, "max": 2, "prompt_id": first, "node": "2"} for value in (1, 2)
    ]
    files = {"files": [{"filename": "note_00001_.txt", "subfolder": "", "type": "output"}]}
    executed = {"node": "9", "display_node": "9", "output": files, "prompt_id": first}
    assert [data for kind, data in every if kind == "executed"] == [executed]
    # all of it is at hand the second time, and the file is told again
    again = ears.of(second)
    assert [kind for kind, _ in again] == [
        "execution_start", "execution_cached", "executed", "execution_success", "executing",
    ]  # fmt: skip
    assert sorted(again[1][1]["nodes"]) == ["1", "2", "9"]
    assert again[2][1] == {**executed, "prompt_id": second}


def test_the_length_of_the_queue_is_told_to_everybody(tmp_path):
    async def test(place):
        await place.service.runs.pause(True)
        async with listening(place, "?clientId=a") as one, listening(place, "") as two:
            sids = [(await ears.next())[1]["sid"] for ears in (one, two)]
            await place.prompt(PAIR, client_id="somebody else")
            for ears in (one, two):
                await ears.until(lambda kind, data: data == {"status": {"exec_info": {"queue_remaining": 1}}})
            await place.ask("POST", "/queue", json={"clear": True})
            for ears in (one, two):
                await ears.until(lambda kind, data: data == {"status": {"exec_info": {"queue_remaining": 0}}})
            return sids

    one, two = served(test, tmp_path)
    assert one == "a"
    assert len(two) == 32 and int(two, 16) >= 0


def test_a_client_hears_of_its_own_runs_alone(tmp_path):
    async def test(place):
        async with listening(place, "?clientId=a") as one, listening(place, "?clientId=b") as two:
            first, second = (
                await place.prompt(LONG, client_id="a"),
                await place.prompt({**LONG, "1": n("Word", text="other")}, client_id="b"),
            )
            await one.over(first)
            await two.over(second)
            for ears in (one, two):
                await ears.until(lambda kind, data: data == {"status": {"exec_info": {"queue_remaining": 0}}})
            return first, second, one, two

    first, second, one, two = served(test, tmp_path)
    assert one.of(second) == [] and two.of(first) == []
    assert one.kinds(first)[-2:] == two.kinds(second)[-2:] == ["execution_success", "executing"]


def test_of_a_run_without_a_client_only_its_progress_is_told_and_to_everybody(tmp_path):
    async def test(place):
        async with listening(place, "?clientId=a") as one, listening(place, "?clientId=b") as two:
            run = await place.prompt(LONG)
            await place.over(run)
            for ears in (one, two):
                await ears.until(
                    lambda kind, data: kind == "status" and not data["status"]["exec_info"]["queue_remaining"]
                )
                while not any(kind == "progress" and data["value"] == 2 for kind, data in ears.of(run)):
                    await ears.next()
            await asyncio.sleep(0)
            return run, [Counter(ears.kinds(run)) for ears in (one, two)]

    _, kinds = served(test, tmp_path)
    for each in kinds:
        assert set(each) == {"progress", "progress_state"}
        assert each["progress"] == 2


def test_a_failure_is_told_whole(tmp_path):
    async def test(place):
        async with listening(place) as ears:
            graph = {**PAIR, "2": n("Broken", value=("1", 0)), "9": n("Note", value=("2", 0))}
            run = await place.prompt(graph, client_id="me")
            await ears.over(run)
            return run, ears

    run, ears = served(test, tmp_path)
    assert ears.kinds(run)[-2:] == ["execution_error", "executing"]
    data = ears.of(run)[-2][1]
    assert set(data) >= {
        "prompt_id", "node_id", "node_type", "executed", "exception_message", "exception_type", "traceback",
        "current_inputs", "current_outputs", "timestamp",
    }  # fmt: skip
    assert (data["node_id"], data["node_type"], data["executed"]) == ("2", "Broken", ["1"])
    assert data["exception_type"] == "ValueError" and "it broke" in data["exception_message"]
    assert all(isinstance(line, str) for line in data["traceback"]) and "small.py" in "".join(data["traceback"])
    assert "execution_success" not in ears.kinds(run)


def test_pictures_of_work_under_way_go_to_clients_that_know_them(tmp_path):
    async def test(place):
        async with listening(place) as plain, listening(place) as full:
            await full.ws.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            _, features = await full.until(lambda kind, data: kind == "feature_flags")
            assert features == {"supports_preview_metadata": True, "max_upload_size": 100 << 20}
            graph = {
                **PAIR,
                "2": n("Painted", value=("1", 0), file=str(tmp_path / "go")),
                "9": n("Note", value=("2", 0)),
            }
            run = await place.prompt(graph, client_id="me")
            _, frame = await full.until(lambda kind, _: kind == "frame")
            (tmp_path / "go").touch()
            await plain.over(run)
            return run, frame, plain.frames

    run, frame, frames = served(test, tmp_path)
    event, length = struct.unpack(">II", frame[:8])
    assert event == 4
    assert json.loads(frame[8 : 8 + length]) == {
        "node_id": "2", "prompt_id": run, "display_node_id": "2", "parent_node_id": None, "real_node_id": "2",
        "image_type": "image/jpeg",
    }  # fmt: skip
    assert frame[8 + length :] == TINY_JPEG
    assert frames == []  # others take a picture for the result, as ComfyUI makes no previews unless told to


def test_a_server_without_previews_shows_none(tmp_path):
    async def test(place):
        async with listening(place) as ears:
            (tmp_path / "go").touch()
            graph = {
                **PAIR,
                "2": n("Painted", value=("1", 0), file=str(tmp_path / "go")),
                "9": n("Note", value=("2", 0)),
            }
            run = await place.prompt(graph, client_id="me")
            await ears.over(run)
            return ears.frames

    assert served(test, tmp_path, previews=False) == []


def test_a_client_that_comes_back_hears_which_node_runs_and_how_it_ends(tmp_path):
    async def test(place):
        graph = {**PAIR, "2": n("Wait", value=("1", 0), file=str(tmp_path / "go")), "9": n("Note", value=("2", 0))}
        async with listening(place) as ears:
            run = await place.prompt(graph, client_id="me")
            await ears.until(lambda kind, data: kind == "executing" and data["node"] == "2")
        async with listening(place) as back, listening(place, "?clientId=other") as other:
            status = await back.next()
            executing = await back.next()
            (tmp_path / "go").touch()
            await back.over(run)
            return run, status, executing, back.kinds(run), other.of(run)

    _, status, executing, kinds, others = served(test, tmp_path)
    assert (status[0], status[1]["sid"]) == ("status", "me")
    assert (executing[0], executing[1]["node"]) == ("executing", "2")
    assert kinds[-3:] == ["executed", "execution_success", "executing"] or kinds[-2:] == [
        "execution_success",
        "executing",
    ]
    assert others == []


def test_a_client_that_comes_back_after_the_worker_died_is_told_nothing_old(tmp_path):
    async def test(place):
        graph = {**PAIR, "2": n("Mortal", value=("1", 0), file=str(tmp_path / "calls")), "9": n("Note", value=("2", 0))}
        async with listening(place) as ears:
            run = await place.prompt(graph, client_id="me")
            await ears.over(run)
            kinds = ears.kinds(run)
        async with listening(place) as back:
            await back.next()
            other = await place.prompt({"1": n("Note", value="next")}, client_id="me")
            await back.over(other)
            return run, kinds, back.of(run)

    _, kinds, late = served(test, tmp_path)
    assert kinds.count("execution_success") == 1 and kinds.count("execution_error") == 0
    assert kinds[-1] == "executing"
    assert late == []


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "null", '{"type": 1}', '{"type": "feature_flags"}', '{"type": "feature_flags", "data": 7}',
             "[" * 100_000, '{"type": "x", "data": {}}', b"\0\1"],
)  # fmt: skip
def test_whatever_a_client_says_it_goes_on_hearing(tmp_path, said):
    async def test(place):
        async with listening(place) as ears:
            await (ears.ws.send_bytes(said) if isinstance(said, bytes) else ears.ws.send_str(said))
            await ears.over(await place.prompt(PAIR, client_id="me"))
            return ears.heard[0][0]

    assert served(test, tmp_path) == "status"


def test_a_second_server_goes_on_with_the_history_of_the_first(tmp_path):
    async def first(place):
        run = await place.prompt(PAIR, client_id="me")
        await place.over(run)
        return run, (await place.ask("GET", "/history"))[1]

    async def second(place):
        number = (await place.ask("POST", "/prompt", json={"prompt": PAIR, "client_id": "me"}))[1]["number"]
        return number, (await place.ask("GET", f"/history/{run}"))[1]

    run, before = served(first, tmp_path)
    number, after = served(second, tmp_path)
    assert after == before
    assert number == 1
