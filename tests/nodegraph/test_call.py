"""How a node is called: results checked, laws kept, memory freed and tried once more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nodegraph import call
from nodegraph.errors import Interrupted
from nodegraph.events import NodeProgress
from nodegraph.plan import Step
from nodegraph.session import Session
from nodegraph.spec import NODE_ATTRIBUTE, node, spec_of
from nodegraph.types import Each
from tests.nodegraph import trivial
from tests.nodegraph.tensors import TENSORS
from tests.nodegraph.trivial import GATES, n, run


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with trivial.session(tmp_path, TENSORS) as made:
        yield made


def called(function: Any, arguments: dict[str, Any]) -> call.Outcome:
    spec = spec_of(function, "N")
    return call.run_node(Step("1", spec, arguments, (), b"", {}), arguments, None, lambda: "nothing")


@pytest.mark.parametrize("kind", ["Spoil", "SpoilAsync"])
def test_a_node_that_changes_its_input_is_caught_and_what_it_spoilt_is_made_again(session: Session, kind: str) -> None:
    document = {
        "a": n("Ones"), "same": n("Same", x=("a", 0)), "bad": n(kind, x=("same", 0)), "out": n("Show", value=("bad",
        0)),
        "keep": n("Show", value=("same", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert list(found.errors) == ["bad"]
    assert kind == "SpoilAsync" or torch.equal(found.values["keep"], torch.ones(4))
    assert found.errors["bad"].message.startswith(
        "it changed its input 'x' in place, which others share; work on a copy"
    )
    good = run(
        session,
        {"a": n("Ones"), "t": n("Twice", x=("a", 0)), "u": n("Same", x=("a", 0)), "out": n("Total", x=("t", 0))},
        ["out", "u"],
    )
    assert good.values["out"] == 8.0
    assert torch.equal(good.values["u"], torch.ones(4))
    assert {"t", "out"} <= set(good.ran) <= {"a", "t", "u", "out"}


def test_a_node_that_changes_its_input_and_fails_is_caught_too(session: Session) -> None:
    found = run(
        session, {"a": n("Ones"), "bad": n("Spoil", x=("a", 0), fails=True), "out": n("Show", value=("bad", 0))}
    )
    assert "in place" in found.errors["bad"].message
    assert run(session, {"a": n("Ones"), "out": n("Total", x=("a", 0))}, ["out"]).values == {"out": 4.0}


def test_what_others_still_have_to_read_is_made_again_within_the_run(session: Session) -> None:
    document = {
        "a": n("Ones"), "bad": n("Spoil", x=("a", 0)), "x": n("Show", value=("bad", 0)),
        "t": n("Total", x=("a", 0)), "y": n("Show", value=("t", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert (list(found.errors), found.values) == (["bad"], {"y": 4.0})
    assert found.ran.count("a") == 2


def test_out_of_memory_frees_and_tries_once_more(session: Session) -> None:
    run(session, {"b": n("Ones", size=1000), "out": n("Total", x=("b", 0))}, ["out"])
    document = {"a": n("Ones"), "h": n("Hungry", name="h", x=("a", 0)), "out": n("Total", x=("h", 0))}
    found = run(session, document, ["out"])
    assert (found.values, found.ran, GATES["h"].calls) == ({"out": 4.0}, ["a", "h", "out"], 2)
    assert run(session, {"b": n("Ones", size=1000), "out": n("Total", x=("b", 0))}, ["out"]).ran == [
        "b",
        "out",
    ]  # it was let go


def test_out_of_memory_twice_says_what_is_held(session: Session) -> None:
    document = {"a": n("Ones"), "h": n("Hungry", name="h", times=5, x=("a", 0)), "out": n("Show", value=("h", 0))}
    found = run(session, document)
    error = found.errors["h"]
    assert error.is_out_of_memory and GATES["h"].calls == 2
    assert "out of memory: OutOfMemoryError: CUDA out of memory" in error.message and "still held: " in error.message
    assert error.inputs["x"] == "Tensor [4] float32 on cpu"


def test_other_errors_are_not_tried_again(session: Session) -> None:
    def broken() -> int:
        GATES["x"].calls += 1
        raise RuntimeError("size mismatch")

    outcome = called(broken, {})
    assert GATES["x"].calls == 1
    assert outcome.error is not None and str(outcome.error) == "node 1 (N): RuntimeError: size mismatch"


def test_an_error_tells_inputs_and_the_nodes_own_traceback(session: Session) -> None:
    document = {
        "a": n("Const", value=5),
        "f": n("Fail", a=("a", 0), message="x" * 300),
        "out": n("Show", value=("f", 0)),
    }
    error = run(session, document).errors["f"]
    assert error.inputs == {"a": "5", "message": "'" + "x" * 196 + "..."}
    assert "in fail" in error.traceback and "nodegraph/call.py" not in error.traceback
    assert error.traceback.rstrip().endswith("x" * 300)


def test_a_value_whose_repr_fails_does_not_hide_the_error() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    def broken(*, a: Any) -> int:
        raise ValueError("seen")

    outcome = called(broken, {"a": Shy()})
    assert "seen" in str(outcome.error)
    assert call.shown({"a": Shy()}) == {"a": "<Shy, whose repr fails: RuntimeError>"}


def test_an_exit_or_an_interrupt_comes_back_as_an_outcome() -> None:
    def leave() -> int:
        raise SystemExit("bye")

    def stop() -> int:
        raise Interrupted

    assert "SystemExit: bye" in str(called(leave, {}).error)
    assert isinstance(called(stop, {}).error, Interrupted)


def test_a_run_cancelled_just_before_the_call_is_interrupted() -> None:
    class Cancelled:
        def check(self) -> None:
            raise Interrupted

    def f(*, ctx: Any) -> int: ...

    outcome = call.run_node(Step("1", spec_of(f, "N"), {}, (), b"", {}), {}, Cancelled(), lambda: "")  # type: ignore[arg-type]
    assert isinstance(outcome.error, Interrupted)


# Results


def test_a_named_tuple_may_be_a_value(session: Session) -> None:
    found = run(session, {"a": n("Ones"), "m": n("Measure", x=("a", 0)), "s": n("Size", pair=("m", 0))}, ["s", "m"])
    assert found.values == {"s": 4, "m": ("x", 4)}


def test_a_result_of_nothing_is_told(session: Session) -> None:
    found = run(session, {"a": n("Ones"), "x": n("Nothing", x=("a", 0)), "out": n("Show", value=("x", 0))})
    assert found.errors["x"].message == "it returned nothing for TENSOR; expected TENSOR"


def test_too_few_results_are_told() -> None:
    @node("Two", category="t")
    def two() -> trivial.Division:
        return (1,)  # type: ignore[return-value]

    step = Step("1", getattr(two, NODE_ATTRIBUTE), {}, (), b"", {})
    assert "expected a tuple of quotient, remainder" in str(call.run_node(step, {}, None, lambda: "").error)


def test_what_is_no_list_is_no_each() -> None:
    def each() -> Each[int]:
        return 5  # type: ignore[return-value]

    assert "TypeError" in str(called(each, {}).error)


# Values over links


def test_values_over_links_are_checked_as_literals_are(session: Session) -> None:
    document = {"e": n("Echo", value=5000), "p": n("Pick", a=1, b=2, limit=("e", 0)), "out": n("Show", value=("p", 0))}
    found = run(session, document)
    assert "limit: got 5000 over its link; Input should be less than or equal to 1000" in found.errors["p"].message
    assert run(
        session, {"e": n("Const", value=2), "r": n("Real", value=("e", 0)), "out": n("Show", value=("r", 0))}
    ).values == {"out": 2.0}


def test_the_items_of_lists_are_checked_and_converted_too(session: Session) -> None:
    document = {"e": n("Range", n=3), "r": n("Real", value=("e", 0)), "out": n("Show", value=("r", 0))}
    found = run(session, document).values["out"]
    assert found == (0.0, 1.0, 2.0) and {type(item) for item in found} == {float}
    wrong = {"e": n("Range", n=3), "x": n("Echo", value=("e", 0)), "m": n("Mul", a=("x", 0), b=1.5)}
    with pytest.raises(Exception, match="of the wrong type"):
        run(session, wrong, ["m"])
    text = {
        "t": n("Echo", value="many"),
        "l": n("Range", n=1),
        "s": n("Sum", items=("t", 0)),
        "out": n("Show", value=("s", 0)),
    }
    assert "items: got 'many' over its link" in run(session, text).errors["s"].message


def test_lists_of_tensors_are_mapped_and_taken_whole(session: Session) -> None:
    document = {
        "a": n("Ones", size=3), "s": n("Split", x=("a", 0)), "t": n("Twice", x=("s", 0)), "j": n("Stack", x=("t", 0)),
        "one": n("Stack", x=("a", 0)), "out": n("Show", value=("j", 0)), "alone": n("Show", value=("one", 0)),
    }  # fmt: skip
    found = run(session, document)
    assert found.values["out"].tolist() == [2.0, 2.0, 2.0]
    assert found.values["alone"].tolist() == [1.0, 1.0, 1.0]
    assert found.ran == ["a", "s", "t", "j", "out", "one", "alone"]


def test_mapped_calls_tell_their_progress(session: Session) -> None:
    document = {"r": n("Range", n=3), "p": n("Patient", name="p", a=("r", 0)), "out": n("Show", value=("p", 0))}
    GATES["p"].opened.set()
    found = run(session, document)
    assert found.values == {"out": (0, 1, 2)}
    assert [(event.step, event.total) for event in found.of(NodeProgress) if event.total == 3] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]


def test_a_generator_of_a_seed_is_the_same_everywhere(session: Session) -> None:
    found = run(session, {"a": n("Noisy", seed=3), "b": n("Noisy", seed=4)}, ["a", "b"])
    assert torch.equal(found.values["a"], torch.rand(3, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(found.values["a"], found.values["b"])
