"""Numbers from formulas. Formulas are parsed and walked, never executed."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from nodegraph.errors import did_you_mean
from nodegraph.spec import node

Number = int | float

LONGEST = 1000
"""Characters of a formula."""
LARGEST_BITS = 1024
"""Of a whole number on the way; larger than any float."""
_MOST_DIGITS = 300

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "min": (lambda *numbers: min(numbers), 1, 99),
    "max": (lambda *numbers: max(numbers), 1, 99),
    "abs": (abs, 1, 1),
    "round": (lambda number, digits=0: _rounded(number, digits), 1, 2),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "sin": (math.sin, 1, 1),
    "cos": (math.cos, 1, 1),
    "log": (math.log, 1, 2),
    "exp": (math.exp, 1, 1),
}
"""By name: what it is, and how few and many numbers it takes."""
_CONSTANTS: Mapping[str, Number] = {"pi": math.pi}
_VARIABLES = ("a", "b", "c")


class Numbers(NamedTuple):
    """A number, whole and as it is."""

    INT: int
    FLOAT: float


def _problems(*, expression: str | None = None, **given: Any) -> Iterator[str]:
    """What is wrong with the literals; an input that is linked is not among them."""
    if expression is None:
        return
    try:
        used = names_of(expression)
        values = {name: number_of(name, value) for name, value in given.items() if name in used}
        if used <= values.keys() | _CONSTANTS.keys():
            evaluate(expression, values)
    except ValueError as error:
        yield str(error)


@node("MathExpression", category="utils/primitive", title="Math Expression", check=_problems)
def math_expression(*, expression: str, a: Any = None, b: Any = None, c: Any = None) -> Numbers:
    """Work out a formula, such as `ceil(a / 64) * 64`: as a whole number, its fraction cut off, and as it is.

    Args:
        expression: Of a, b, c, numbers and pi, with + - * / // % **, comparisons (1 or 0), and min, max, abs, round,
            floor, ceil, sqrt, sin, cos, log, exp.
        a: A number.
        b: A number.
        c: A number.
    """
    used = names_of(expression)
    given = {"a": a, "b": b, "c": c}
    found = evaluate(expression, {name: number_of(name, given[name]) for name in _VARIABLES if name in used})
    return Numbers(int(found), float(found))


def number_of(name: str, value: Any) -> Number:
    """The value of a variable.

    Raises:
        ValueError: it is none, or no number.
    """
    if value is None:
        raise ValueError(f"the expression uses {name}, which has no value; give it one or leave it out")
    try:
        if isinstance(value, (int, float)):
            return _bounded(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{name} is {value!r:.80}; expected a number that fits a float")


def names_of(expression: str) -> set[str]:
    """The variables and constants a formula uses.

    Raises:
        ValueError: it cannot be read, or uses what is not there.
    """
    tree = _parsed(expression)
    functions = {id(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call)}
    used = {name.id for name in ast.walk(tree) if isinstance(name, ast.Name) and id(name) not in functions}
    known = (*_VARIABLES, *_CONSTANTS)
    for name in sorted(used):
        if name not in known:
            raise ValueError(f"{name!r} is unknown in the expression; expected one of {', '.join(known)}")
    return used


def evaluate(expression: str, values: Mapping[str, Number]) -> Number:
    """The value of a formula.

    Raises:
        ValueError: it cannot be read, has no value, or its value is too large.
    """
    try:
        return _value(_parsed(expression), {**_CONSTANTS, **values})
    except ZeroDivisionError:
        raise ValueError(f"{expression!r} divides by zero") from None
    except OverflowError:
        raise ValueError(f"{expression!r} is too large") from None
    except RecursionError:
        raise ValueError("the expression is nested too deeply; write it in parts") from None


def _parsed(expression: str) -> ast.expr:
    if len(expression) > LONGEST:
        raise ValueError(f"the expression has {len(expression)} characters; expected {LONGEST} or fewer")
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"the expression {expression!r} cannot be read: {reason}") from None
    except (MemoryError, RecursionError):  # the parser's own limits
        raise ValueError("the expression is nested too deeply; write it in parts") from None


def _value(item: ast.expr, values: Mapping[str, Number]) -> Number:
    match item:
        case ast.Constant(value=int() | float() as value):
            return _bounded(value)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return +_value(operand, values)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, values), _value(right, values))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_value(left, values), _value(right, values)))
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
            sides = [_value(side, values) for side in (left, *comparators)]
            pairs = zip(ops, sides, sides[1:], strict=False)
            return int(all(_COMPARE[type(op)](one, other) for op, one, other in pairs))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _call(name, [_value(argument, values) for argument in arguments])
        case _:
            raise ValueError(
                f"the expression has {ast.unparse(item)!r:.80}, which is not allowed; expected numbers, a, b, c, pi, "
                f"+ - * / // % **, comparisons, and {', '.join(_FUNCTIONS)}"
            )


def _call(name: str, arguments: list[Number]) -> Number:
    if name not in _FUNCTIONS:
        fix = did_you_mean(name, _FUNCTIONS) or f"expected one of {', '.join(_FUNCTIONS)}"
        raise ValueError(f"the function {name!r} is unknown; {fix}")
    function, fewest, most = _FUNCTIONS[name]
    if not fewest <= len(arguments) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise ValueError(f"{name} takes {wanted} numbers and got {len(arguments)}")
    try:
        return _bounded(function(*arguments))
    except (TypeError, ValueError):
        raise ValueError(f"{name}({', '.join(map(str, arguments))}) has no value") from None


def _rounded(value: Number, digits: Number) -> Number:
    if not isinstance(digits, int) or abs(digits) > _MOST_DIGITS:
        raise ValueError
    return round(value, digits) if digits else round(value)


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent > LARGEST_BITS:
        raise OverflowError
    found = base**exponent
    if isinstance(found, complex):
        raise ValueError(f"{base} ** {exponent} has no real value")
    return _bounded(found)


def _bounded(value: Number) -> Number:
    """The number itself.

    Raises:
        OverflowError: it does not fit a float.
        ValueError: it is not a number.
    """
    if math.isnan(value):
        raise ValueError("the expression has no value: a part of it is not a number")
    if math.isinf(value):
        raise OverflowError
    float(value)
    return value
