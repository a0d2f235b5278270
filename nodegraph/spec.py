"""A node's interface, read once from its signature; the single source of everything shown or checked about it."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from nodegraph.errors import DefinitionError, FileProblem
from nodegraph.types import ANY, Choices, Each, File, FileRef, Lazy, Names, Port, Widget

F = TypeVar("F", bound=Callable[..., Any])
NODE_ATTRIBUTE = "__nodegraph_spec__"
LITERAL_PORTS: Mapping[type, str] = {bool: "BOOLEAN", int: "INT", float: "FLOAT", str: "STRING"}


class Missing:
    """The default of an input that has none."""

    def __repr__(self) -> str:
        return "required"


MISSING = Missing()


@dataclass(frozen=True, slots=True)
class Input:
    """One parameter of a node.

    Attributes:
        name: the parameter, and the key in documents.
        port: type of the link it takes (`INT`, `IMAGE`, `COMBO`, `*`, ...).
        default: value when the document gives none; `MISSING` when it must.
        literal: annotation that validates a value written in the document; None when only a link fits.
        is_lazy: the node gets a handle instead of the value.
        is_list: the node takes all items of a list at once.
        is_kin: what it takes must be of the family of the other kin inputs.
        widget: display hints.
        choices: allowed strings, for a COMBO with fixed options.
        file: the kind of file it names, for a COMBO whose options are files.
        limits: `ge`, `gt`, `le`, `lt`, `multiple_of` as declared.
        doc: one line for people.
    """

    name: str
    port: str
    default: Any = MISSING
    literal: Any = None
    is_lazy: bool = False
    is_list: bool = False
    is_kin: bool = False
    widget: Widget = field(default_factory=Widget)
    choices: tuple[str, ...] | None = None
    file: File | None = None
    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    doc: str = ""

    @property
    def is_required(self) -> bool:
        """True when the document must give a value or a link."""
        return self.default is MISSING


@dataclass(frozen=True, slots=True)
class Output:
    """One result of a node; `is_each` marks a list that maps the nodes after it."""

    name: str
    port: str
    is_each: bool = False


@dataclass(frozen=True)
class NodeSpec:
    """Everything the engine knows of a node type.

    Attributes:
        name: id in documents (`class_type`).
        function: the node itself, keyword-only.
        kind: `pure`; `sink`, which has effects and makes its run worthwhile; `control`, which returns handles.
        lane: `device` for work on tensors, `io` for work on files.
        is_cached: False when every run must call it again.
        version: what stands for its code in keys.
        fingerprint: gives a string of outside state from the literal inputs, or None.
        check: gives sentences of what is wrong with the literal inputs, at planning, without torch; a `FileProblem`
            among them stands for a file that is not there.
        family: tells from the literal inputs the family of what the node loads; see `kin`.
        workflow: the document behind a workflow used as a node, else None.
    """

    name: str
    title: str
    category: str
    doc: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    function: Callable[..., Any]
    kind: Literal["pure", "sink", "control"] = "pure"
    lane: Literal["device", "io"] = "device"
    is_cached: bool = True
    takes_context: bool = False
    is_async: bool = False
    version: str = ""
    fingerprint: Callable[..., str] | None = None
    check: Callable[..., Iterable[str | FileProblem]] | None = None
    family: Callable[..., str | None] | None = None
    module: str = ""
    workflow: Any = None

    @cached_property
    def kin_inputs(self) -> tuple[str, ...]:
        """Inputs whose values must be of one family."""
        return tuple(item.name for item in self.inputs if item.is_kin)

    @cached_property
    def by_name(self) -> Mapping[str, Input]:
        """Inputs by name."""
        return {item.name: item for item in self.inputs}

    @cached_property
    def shows(self) -> tuple[int, ...]:
        """Slots of a sink whose texts are for people to read."""
        return tuple(slot for slot, out in enumerate(self.outputs) if self.kind == "sink" and out.port == "STRING")

    @cached_property
    def widgets(self) -> tuple[str, ...]:
        """Inputs whose literals are checked."""
        return tuple(item.name for item in self.inputs if item.literal not in (None, Any))

    @cached_property
    def has_lists(self) -> bool:
        """True when an input takes all items of a list."""
        return any(item.is_list for item in self.inputs)

    @cached_property
    def slots(self) -> Mapping[str, int]:
        """Output slots by output name; an ambiguous name stands for its first slot."""
        names: dict[str, int] = {}
        for slot, output in enumerate(self.outputs):
            names.setdefault(output.name, slot)
        return names

    def slot(self, output: int | str) -> int | None:
        """The slot of an output by number or name, or None when there is no such output."""
        if type(output) is int:
            return output if 0 <= output < len(self.outputs) else None
        return self.slots.get(str(output))

    @cached_property
    def validate(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Checks and converts literal inputs; raises pydantic's ValidationError. Unknown names are dropped."""
        fields = {item.name: item.literal for item in self.inputs if item.literal is not None}
        # The functional form needs a plain dict, and the config goes in as the class attribute pydantic looks for.
        shape: Any = TypedDict("Literals", fields, total=False)  # type: ignore[operator]
        shape.__pydantic_config__ = ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False, extra="ignore")
        return TypeAdapter(shape).validator.validate_python


def node(
    name: str, *, category: str, title: str | None = None, version: str | None = None,
    kind: Literal["pure", "sink"] = "pure", lane: Literal["device", "io"] = "device", cache: bool = True,
    fingerprint: Callable[..., str] | None = None, check: Callable[..., Iterable[str | FileProblem]] | None = None,
    family: Callable[..., str | None] | None = None,
) -> Callable[[F], F]:  # fmt: skip
    """Declares a function as the node `name`; the function itself stays as it is.

    Args:
        name: id in documents.
        category: place in menus, `a/b/c`.
        title: name for people; made from `name` when absent.
        version: what stands for the code in keys; a digest of the source when absent.
        kind: `sink` for a node with effects, such as saving a file.
        lane: `io` for work on files that may overlap with the device's.
        cache: False when the node must run every time.
        fingerprint: outside state, as a string, from the literal inputs; a change re-runs the node.
        check: sentences of what is wrong with the literal inputs; called at planning. This and `fingerprint` are
            given the data folders when they have a parameter `files` that is no input of the node.
        family: the family of the models the node loads, from the literal inputs; called at planning.

    Raises:
        DefinitionError: the signature is not a node's; the message names the fix.
    """

    def declare(function: F) -> F:
        spec = spec_of(function, name, category=category)
        spec = replace(
            spec, title=title or spec.title, version=version or spec.version, lane=lane, is_cached=cache,
            fingerprint=fingerprint, check=check, family=family, kind=kind if spec.kind == "pure" else spec.kind,
        )  # fmt: skip
        setattr(function, NODE_ATTRIBUTE, spec)
        return function

    return declare


def spec_of(function: Callable[..., Any], name: str, *, category: str = "") -> NodeSpec:
    """Reads a node's interface from its signature, annotations and docstring.

    Raises:
        DefinitionError: names the parameter or result at fault and how to write it.
    """
    where = f"node {name} ({getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', '?')})"
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        raise DefinitionError(f"{where}: an annotation cannot be read ({error}); import the names it uses") from error
    doc = inspect.cleandoc(function.__doc__ or "")
    notes = _argument_docs(doc)
    inputs: list[Input] = []
    takes_context = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "ctx":
            takes_context = True
            continue
        note = notes.get(parameter.name, "")
        names = next((extra for extra in _unwrap(hints.get(parameter.name))[1] if isinstance(extra, Names)), None)
        if names is not None and parameter.kind is inspect.Parameter.VAR_KEYWORD:
            inputs += [_input(where, name, hints[parameter.name], names.default, note) for name in names.names]
            continue
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise DefinitionError(f"{where}: parameter {parameter.name!r} must be keyword-only; put `*,` before it")
        if parameter.name not in hints:
            raise DefinitionError(f"{where}: parameter {parameter.name!r} has no type; annotate it, e.g. `Image`")
        default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
        inputs.append(_input(where, parameter.name, hints[parameter.name], default, note))
    is_async = inspect.iscoroutinefunction(function)
    is_lazy = any(item.is_lazy for item in inputs)
    if is_lazy and not is_async:
        raise DefinitionError(f"{where}: a node with Lazy inputs must be `async def`")
    return NodeSpec(
        name=name, title=_title(name), category=category,
        doc=doc.split("\n\nArgs:")[0], inputs=tuple(inputs), outputs=_outputs(where, hints.get("return")),
        function=function, kind="control" if is_lazy else "pure", takes_context=takes_context, is_async=is_async,
        version=source_digest(function), module=function.__module__,
    )  # fmt: skip


def _title(name: str) -> str:
    """A name in words: `CLIPTextEncodeSDXL` is CLIP Text Encode SDXL, `KSampler` stays."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{2})(?=[A-Z][a-z])", " ", name).replace("_", " ")


def source_digest(function: Callable[..., Any]) -> str:
    """Digest of the code behind a node: its file, or for a node inside a package the whole package.

    A node's result depends on the helpers it calls as much as on its own lines, so the unit is what ships together.
    """
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        return hashlib.blake2b(_code(function.__code__).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    root = getattr(sys.modules.get(function.__module__.partition(".")[0]), "__path__", None)
    return digest_of_sources(next(iter(root)) if root else file)


def wants_files(hook: Callable[..., Any]) -> bool:
    """True when a `check` or `fingerprint` has a parameter `files` of its own, for the data folders."""
    try:
        found = inspect.signature(hook).parameters.get("files")
    except ValueError:  # compiled functions may have none
        return False
    return found is not None and found.kind is not inspect.Parameter.VAR_KEYWORD


def _code(code: types.CodeType) -> str:
    """Bytecode with its constants and names, for functions typed at a prompt."""
    constants = [_code(item) if isinstance(item, types.CodeType) else repr(item) for item in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_freevars))


@lru_cache(maxsize=1024)
def digest_of_sources(place: str) -> str:
    """Digest of a source file, or of all in a package; read once, until a node folder is loaded again."""
    path = Path(place)
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        source = file.read_bytes()
        digest.update(f"{file.relative_to(path).as_posix()}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


def _argument_docs(doc: str) -> dict[str, str]:
    """The `Args:` section of a Google-style docstring, by parameter."""
    match = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if match is None:
        return {}
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", match.group(1), re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text).strip() for name, text in found}


def _input(where: str, name: str, hint: Any, default: Any, doc: str) -> Input:
    base, extras, is_lazy, is_list = _unwrap(hint)
    port = next((extra for extra in extras if isinstance(extra, Port)), None)
    file = next((extra for extra in extras if isinstance(extra, File)), None)
    choices = next((extra.options for extra in extras if isinstance(extra, Choices)), None)
    widget = next((extra for extra in extras if isinstance(extra, Widget)), Widget())
    if get_origin(base) is Literal:
        choices, base = tuple(map(str, get_args(base))), str
    common: dict[str, Any] = {"default": default, "is_lazy": is_lazy, "is_list": is_list, "widget": widget, "doc": doc}
    if port is not None:
        return Input(name, port.name, is_kin=port.kin, **common)
    if file is not None or base is FileRef:
        if file is None:
            raise DefinitionError(f'{where}: {name} is a FileRef of no kind; write Annotated[FileRef, File("loras")]')
        return Input(name, "COMBO", literal=str, file=file, **common)
    if choices is not None:
        if default is not MISSING and default not in choices:
            raise DefinitionError(f"{where}: the default of {name}, {default!r}, is not one of its choices")
        return Input(name, "COMBO", literal=Literal[choices], choices=choices, **common)
    if base is Any or isinstance(base, TypeVar):
        return Input(name, ANY, literal=Any, **common)
    if base in LITERAL_PORTS:
        literal = Annotated[(base, *extras)] if extras else base  # type: ignore[valid-type]
        return Input(name, LITERAL_PORTS[base], literal=literal, limits=_limits(extras), **common)
    raise DefinitionError(f"{where}: {name} has type {base!r}, which is no port; write Annotated[..., Port('NAME')]")


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...], bool, bool]:
    """Strips Lazy, list, Annotated and None from an annotation -> (base, extras, is_lazy, is_list)."""
    extras: tuple[Any, ...] = ()
    is_lazy = is_list = False
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint, *found = get_args(hint)
            extras += tuple(found)
        elif hint is Lazy or origin is Lazy:
            is_lazy, hint = True, (get_args(hint) or (Any,))[0]
        elif origin is list and not any(isinstance(extra, Port) for extra in extras):
            is_list, hint = True, get_args(hint)[0]
        elif origin is Union or origin is types.UnionType:
            members = [member for member in get_args(hint) if member is not type(None)]
            if len(members) != 1:
                return hint, extras, is_lazy, is_list
            hint = members[0]
        else:
            return hint, extras, is_lazy, is_list


def _limits(extras: Iterable[Any]) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for extra in extras:
        for rule in extra.metadata if isinstance(extra, FieldInfo) else (extra,):
            for name in ("ge", "gt", "le", "lt", "multiple_of"):
                value = getattr(rule, name, None)
                if value is not None:
                    found[name] = value
    return found


def _outputs(where: str, hint: Any) -> tuple[Output, ...]:
    if hint is None or hint is type(None):
        return ()
    if _is_named_tuple(hint):
        hints = get_type_hints(hint, include_extras=True)
        return tuple(_output(where, hints[name], name) for name in hint._fields)
    return (_output(where, hint, None),)


def _is_named_tuple(hint: object) -> bool:
    return hasattr(hint, "_fields") and isinstance(hint, type) and issubclass(hint, tuple)


def _output(where: str, hint: Any, name: str | None) -> Output:
    is_each = get_origin(hint) is Each or hint is Each
    if is_each:
        hint = (get_args(hint) or (Any,))[0]
    base, extras, _, _ = _unwrap(hint)
    port = next((extra.name for extra in extras if isinstance(extra, Port)), None)
    if port is None:
        port = ANY if base is Any or isinstance(base, TypeVar) else LITERAL_PORTS.get(base)
    if port is None:
        raise DefinitionError(
            f"{where}: result type {base!r} is no port; write Annotated[..., Port('NAME')] or int, ..."
        )
    return Output(name or port, port, is_each)
