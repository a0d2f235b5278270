"""Calling a node's function: lists mapped, results checked, errors told with their inputs, memory freed and retried."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeGuard, cast

from pydantic import ValidationError

from nodegraph.context import Context
from nodegraph.devices import loaded_torch
from nodegraph.errors import Interrupted, NodeError, NodegraphError
from nodegraph.graph import Ref
from nodegraph.keys import canonical
from nodegraph.memory import tensors
from nodegraph.plan import Literal, Step
from nodegraph.spec import NodeSpec
from nodegraph.types import Each, Lazy

SHOWN = 200  # characters of an input value in an error


class Outcome(NamedTuple):
    """What a call gave: one value per output, or an error."""

    outputs: tuple[Any, ...] = ()
    error: NodeError | Interrupted | None = None
    spoilt: tuple[Any, ...] = ()  # input tensors that the node changed


class _Fault(Exception):
    """The node broke a law of nodes; told without a traceback."""

    def __init__(self, message: str, spoilt: tuple[Any, ...] = ()) -> None:
        self.spoilt = spoilt
        super().__init__(message)


def run_node(step: Step, arguments: dict[str, Any], context: Context | None, free: Callable[[], str]) -> Outcome:
    """Calls a node. Out of memory: frees what can be freed and tries once more.

    Args:
        step: the node.
        arguments: every input's value.
        context: for nodes that take one.
        free: lets go of cached values and models, and says how much is still held.
    """
    spec = step.spec
    try:
        if context is not None:
            context.check()
        try:
            return Outcome(_call(step, arguments, context))
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
        gc.collect()
        held = free()
        try:
            return Outcome(_call(step, arguments, context))
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            message = (
                f"out of memory: {_first_line(error)}; still held: {held}; use a smaller size or batch, or --vram-limit"
            )
            return Outcome(error=_node_error(step, arguments, error, message, is_out_of_memory=True))
    except Interrupted as error:
        return Outcome(error=error)
    except _Fault as error:
        return Outcome(error=NodeError(step.id, spec.name, str(error), inputs=shown(arguments)), spoilt=error.spoilt)
    except NodeError as error:
        return Outcome(error=error)
    except BaseException as error:  # a node may fail in any way, even by sys.exit; the lane's thread goes on
        return Outcome(error=_node_error(step, arguments, error))


async def run_async(step: Step, arguments: dict[str, Any], context: Context | None) -> Outcome:
    """Awaits an async node. Cancelling the task ends it as interrupted."""
    spec = step.spec
    try:
        mapped, arguments = _lists(spec, _checked(step, arguments))
        if mapped is not None and spec.kind == "control":
            name = next(iter(mapped[0] if mapped else arguments))
            raise _Fault(
                f"{name} got a list over its link; a control node takes one value, or all of them as `list[...]`"
            )
        before = _versions(arguments)
        try:
            rows = [arguments] if mapped is None else [{**arguments, **row} for row in mapped]
            results = [_results(spec, await spec.function(**_with(context, row))) for row in rows]
        finally:
            _check_untouched(before)
        if spec.kind == "control":
            return Outcome(tuple(_alias(spec, value) for value in results[0]))
        return Outcome(results[0] if mapped is None else _collected(spec, results))
    except (Interrupted, asyncio.CancelledError):
        return Outcome(error=Interrupted())
    except _Fault as error:
        return Outcome(error=NodeError(step.id, spec.name, str(error), inputs=shown(arguments)), spoilt=error.spoilt)
    except NodeError as error:
        return Outcome(error=error)
    except BaseException as error:  # a node may fail in any way, even by sys.exit; the event loop goes on
        return Outcome(error=_node_error(step, arguments, error))


def shown(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Input values, shortened for people: tensors by shape, texts cut."""
    return {name: _shown(value) for name, value in arguments.items()}


def _call(step: Step, arguments: dict[str, Any], context: Context | None) -> tuple[Any, ...]:
    spec = step.spec
    mapped, arguments = _lists(spec, _checked(step, arguments))
    before = _versions(arguments)
    try:
        if mapped is None:
            return _results(spec, spec.function(**_with(context, arguments)))
        rows: list[tuple[Any, ...]] = []
        for number, row in enumerate(mapped, 1):
            rows.append(_results(spec, spec.function(**_with(context, {**arguments, **row}))))
            if context is not None:
                context.step(number, len(mapped))
        return _collected(spec, rows)
    finally:
        if before:
            _check_untouched(before)


def _with(context: Context | None, arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments if context is None else {"ctx": context, **arguments}


def _checked(step: Step, arguments: dict[str, Any]) -> dict[str, Any]:
    """Values that came over links into widget inputs, checked as the document's literals are."""
    linked: dict[str, Any] = {}
    for name in step.spec.widgets:
        if type(step.arguments[name]) is Ref and type(arguments[name]) is not Lazy:
            linked[name] = arguments[name]
    if not linked:
        return arguments
    if len(linked) == len(arguments):
        arguments = {}
    lists = {name: linked.pop(name) for name in list(linked) if type(linked[name]) is Each}
    items = {name: Each(_valid(step.spec, {name: item})[name] for item in value) for name, value in lists.items()}
    return {**arguments, **_valid(step.spec, linked), **items}


def _valid(spec: NodeSpec, values: dict[str, Any]) -> dict[str, Any]:
    try:
        return spec.validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise _Fault(f"{name}: got {_shown(values[name])} over its link; {first['msg']}") from None


def _lists(spec: NodeSpec, arguments: dict[str, Any]) -> tuple[list[dict[str, Any]] | None, dict[str, Any]]:
    """Rows to map over, or None; and the arguments with list inputs given whole.

    Shorter lists repeat their last item, as ComfyUI's do.
    """
    if not spec.has_lists and Each not in map(type, arguments.values()):
        return None, arguments
    mapped: dict[str, Each[Any]] = {}
    plain = arguments
    for name, value in arguments.items():
        if type(value) is Lazy or value is None:
            continue
        if spec.by_name[name].is_list:
            if plain is arguments:
                plain = dict(arguments)
            plain[name] = list(cast("Iterable[Any]", value)) if isinstance(value, (Each, list)) else [value]
        elif type(value) is Each:
            mapped[name] = value
    if not mapped:
        return None, plain
    if not all(mapped.values()):
        return [], plain
    longest = max(map(len, mapped.values()))
    return [{name: value[min(i, len(value) - 1)] for name, value in mapped.items()} for i in range(longest)], plain


def _results(spec: NodeSpec, result: Any) -> tuple[Any, ...]:
    """What a function returned, as one value per output."""
    outputs = spec.outputs
    if len(outputs) == 1:
        if result is not None and not outputs[0].is_each and not isinstance(result, tuple):
            return (result,)
        whole = cast(Any, result)
        is_named = _is_tuple(whole) and getattr(whole, "_fields", None) == (outputs[0].name,)
        values: tuple[Any, ...] = whole if is_named else (whole,)
    elif not outputs:
        return ()
    elif _is_tuple(result) and len(result) == len(outputs):
        values = tuple(result)
    else:
        raise _Fault(
            f"it returned {_shown(result)}; expected a tuple of {', '.join(output.name for output in outputs)}"
        )
    for output, value in zip(outputs, values, strict=True):
        if value is None:
            raise _Fault(f"it returned nothing for {output.name}; expected {output.port}")
    if any(output.is_each for output in outputs):
        values = tuple(Each(value) if output.is_each else value for output, value in zip(outputs, values, strict=True))
    return tuple(values)


def _is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def _collected(spec: NodeSpec, rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The results of mapped calls, output by output; lists within lists become one."""
    collected: list[Each[Any]] = []
    for slot, output in enumerate(spec.outputs):
        column = [row[slot] for row in rows]
        collected.append(Each(item for items in column for item in items) if output.is_each else Each(column))
    return tuple(collected)


def _alias(spec: NodeSpec, value: Any) -> Any:
    """What a control node returned: a handle as the link it stands for, anything else as a JSON literal."""
    if isinstance(value, Lazy):
        return value.source
    try:
        canonical(value)
    except TypeError:
        raise _Fault(f"a control node returns handles or JSON values, not {_shown(value)}") from None
    return Literal(value)


def _versions(arguments: Mapping[str, Any]) -> list[tuple[str, Any, int]]:
    """Tensors with torch's count of their in-place changes."""
    if "torch" not in sys.modules:
        return []
    return [
        (name, tensor, tensor._version)
        for name, value in arguments.items()
        if type(value) not in (int, float, str, bool)
        for tensor in tensors(value)
        if not tensor.is_inference()
    ]


def _check_untouched(before: list[tuple[str, Any, int]]) -> None:
    changed = [(name, tensor) for name, tensor, version in before if tensor._version != version]
    if changed:
        message = f"it changed its input {changed[0][0]!r} in place, which others share; work on a copy (x = x.clone())"
        raise _Fault(message, tuple(tensor for _, tensor in changed))


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = loaded_torch()
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def _node_error(
    step: Step, arguments: Mapping[str, Any], error: BaseException, message: str = "", is_out_of_memory: bool = False
) -> NodeError:
    if not message:
        message = str(error) if isinstance(error, (NodegraphError, ValueError)) and str(error) else _first_line(error)
    return NodeError(
        step.id, step.spec.name, message, inputs=shown(arguments), traceback=_traceback(error),
        is_out_of_memory=is_out_of_memory,
    )  # fmt: skip


def _traceback(error: BaseException) -> str:
    """A traceback without the engine's own frames."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(type(error), error))


def _first_line(error: BaseException) -> str:
    text = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {text}"


def _shown(value: Any) -> str:
    found = list(tensors(value)) if not isinstance(value, (str, int, float)) else []
    if found and found[0] is value:
        tensor = found[0]
        dtype = str(tensor.dtype).removeprefix("torch.")
        return f"{type(tensor).__name__} {list(tensor.shape)} {dtype} on {tensor.device}"
    if found:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in found[:4])
        return f"{type(value).__name__} with tensors {shapes}"
    try:
        text = repr(value)
    except Exception as error:  # a broken __repr__ must not hide the error it is shown for
        text = f"<{type(value).__name__}, whose repr fails: {type(error).__name__}>"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
