"""Numbers from formulas."""

from __future__ import annotations

import math

import pytest

from nodegraph.errors import WorkflowError
from nodegraph.session import Session, Settings
from nodegraph.workflow import Workflow
from nodes.maths import math_expression


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("1 + 2 * 3", 7),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("2 ** 10", 1024),
        ("2 ** -1", 0.5),
        ("7 / 2", 3.5),
        ("1 < 2 <= 2", 1),
        ("1 < 2 > 3", 0),
        ("(3 == 3.0) + (1 != 1)", 1),
        ("min(3, 1, 2) + max(5)", 6),
        ("abs(-2.5)", 2.5),
        ("round(2.567, 2)", 2.57),
        ("round(2.6)", 3),
        ("floor(-0.5) + ceil(0.5)", 0),
        ("sqrt(9) + cos(0)", 4),
        ("sin(pi / 2) * log(exp(2))", 2),
        ("log(8, 2)", 3),
        ("  +1", 1),
    ],
)
def test_a_formula_has_a_value(expression, wanted):
    found = math_expression(expression=expression)
    assert math.isclose(found.FLOAT, wanted) and type(found.FLOAT) is float
    assert found.INT == int(wanted) and type(found.INT) is int


def test_variables_keep_every_digit_of_a_seed():
    assert math_expression(expression="a + b * c", a=2**64 - 2, b=1, c=1).INT == 2**64 - 1


def test_the_whole_number_is_cut_off():
    assert math_expression(expression="a / 2", a=-7) == (-3, -3.5)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 +", "cannot be read: invalid syntax"),
        ("", "cannot be read"),
        ("1 / 0", "divides by zero"),
        ("1 % 0", "divides by zero"),
        ("d + 1", "'d' is unknown in the expression; expected one of a, b, c, pi"),
        ("a + 1", "uses a, which has no value"),
        ("sqr(4)", "'sqr' is unknown; did you mean 'sqrt'"),
        ("sqrt(-1)", r"sqrt\(-1\) has no value"),
        ("(-8) ** 0.5", "no real value"),
        ("sqrt()", "takes 1 numbers and got 0"),
        ("round(1, 2, 3)", "takes 1 to 2 numbers and got 3"),
        ("round(12, -1000000000)", "has no value"),
        ("9 ** 9 ** 9", "is too large"),
        ("10 ** 308 * 10", "is too large"),
        ("1e308 * 10", "is too large"),
        ("exp(1000)", "is too large"),
        ("1e999 - 1e999", "is too large"),
        ("1 if a else 2", "which is not allowed"),
        ("[1][0]", "which is not allowed"),
        ("(1).real", "which is not allowed"),
        ("max(1, key=2)", "which is not allowed"),
        ("1 << 9", "which is not allowed"),
        ("'a' * 9", "which is not allowed"),
        ("__import__('os')", "which is not allowed"),
        ("(lambda: 1)()", "which is not allowed"),
        ("(" * 500 + "1" + ")" * 499, "cannot be read|nested too deeply"),
        ("-" * 999 + "1", "nested too deeply"),
        ("1" * 1001, "has 1001 characters; expected 1000 or fewer"),
    ],
)
def test_what_is_no_formula_is_told(expression, message):
    with pytest.raises(ValueError, match=message):
        math_expression(expression=expression, **({"a": 1} if "if" in expression else {}))


@pytest.mark.parametrize("value", ["3", [1], float("nan"), float("inf"), 10**400])
def test_only_numbers_go_into_a_formula(value):
    with pytest.raises(ValueError, match=r"a is .*; expected a number"):
        math_expression(expression="a", a=value)
    assert math_expression(expression="1", a=value).INT == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"expression": "1 / 0"}, "divides by zero"),
        ({"expression": "a * "}, "cannot be read"),
        ({"expression": "b + 1", "b": "x"}, "b is 'x'; expected a number"),
        ({"expression": "b + c", "b": ["1", 0]}, "uses c, which has no value"),
        ({"expression": "b / 0", "b": ["1", 0]}, None),
    ],
)
def test_what_is_wrong_is_told_before_running(tmp_path, inputs, message):
    nodes = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 2}},
        "2": {"class_type": "MathExpression", "inputs": inputs},
    }
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        if message is None:
            session.prepare(Workflow.of(nodes), ["2"])
            return
        with pytest.raises(WorkflowError, match=message):
            session.prepare(Workflow.of(nodes), ["2"])


def test_a_number_over_a_link_stays_whole(tmp_path):
    nodes = {
        "1": {"class_type": "PrimitiveInt", "inputs": {"value": 2**62}},
        "2": {"class_type": "MathExpression", "inputs": {"expression": "a + 1", "a": ["1", 0]}},
    }
    with Session(Settings(home=tmp_path, device="cpu", cache_dir=None)) as session:
        running = session.submit(session.prepare(Workflow.of(nodes), ["2"]), wants_values=True)
        assert running.wait().status == "success", running.errors
        assert running.value("2", 0) == 2**62 + 1
