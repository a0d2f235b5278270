"""Messages: where, what, expected, nearest fix."""

from __future__ import annotations

from nodegraph.errors import (
    Interrupted,
    Kind,
    NodeError,
    NodegraphError,
    Problem,
    WorkflowError,
    did_you_mean,
    nearest,
)


def test_a_problem_reads_where_what_expected_fix() -> None:
    problem = Problem("'eulr' is unknown", "3", "KSampler", "sampler_name", "one of euler", "did you mean 'euler'?")
    assert (
        str(problem)
        == "node 3 (KSampler) sampler_name: 'eulr' is unknown; expected one of euler; did you mean 'euler'?"
    )
    assert problem.where == "node 3 (KSampler) sampler_name"
    assert problem.as_json()["message"] == str(problem)
    assert problem.as_json()["kind"] == "invalid"


def test_what_a_problem_does_not_know_is_left_out() -> None:
    assert str(Problem("it has no nodes")) == "workflow: it has no nodes"
    assert str(Problem("is odd", "7")) == "node 7: is odd"


def test_a_workflow_error_holds_every_problem() -> None:
    error = WorkflowError([Problem("a", kind=Kind.MISSING_NODE), Problem("b", kind=Kind.MISSING_MODEL)])
    assert str(error) == "workflow: a\nworkflow: b"
    assert error.is_only_missing
    assert not WorkflowError.of("broken").is_only_missing


def test_a_node_error_names_node_and_input() -> None:
    assert str(NodeError("3", "Add", "too big", input="a")) == "node 3 (Add) a: too big"


def test_an_except_exception_does_not_swallow_an_interrupt() -> None:
    assert not issubclass(Interrupted, Exception)
    assert issubclass(NodeError, NodegraphError)


def test_the_nearest_name_forgives_case_and_separators() -> None:
    assert nearest("DPMPP-2M", ["euler", "dpmpp_2m", "dpmpp_2m_sde"]) == "dpmpp_2m"
    assert nearest("eulr", ["heun", "euler"]) == "euler"
    assert nearest("zzz", ["heun", "euler"]) is None
    assert nearest("", ["a", ""]) is None
    assert did_you_mean("eulr", ["euler"]) == "did you mean 'euler'?"
    assert did_you_mean("zzz", ["euler"]) is None
