"""A node's interface, however it is written."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar

import pytest
from pydantic import Field, ValidationError

from nodegraph.context import Context
from nodegraph.errors import DefinitionError
from nodegraph.registry import Registry
from nodegraph.spec import MISSING, NODE_ATTRIBUTE, NodeSpec, node, source_digest, spec_of
from nodegraph.types import ANY, Choices, Each, File, FileRef, Lazy, Names, Port, Widget

Image = Annotated[object, Port("IMAGE")]
Seed = Annotated[int, Field(ge=0, le=2**64 - 1), Widget(control_after_generate=True)]
Sampler = Literal["euler", "heun"]
T = TypeVar("T")


class Two(NamedTuple):
    image: Image
    count: int


class One(NamedTuple):
    seed: int


def spec(function: Callable[..., Any]) -> NodeSpec:
    return spec_of(function, "N")


def test_a_plain_signature_gives_inputs_and_one_output() -> None:
    def f(*, image: Image, seed: Seed = 3, amount: float = 0.5, name: str = "a", on: bool = False) -> Image: ...

    found = spec(f)
    assert [(item.name, item.port) for item in found.inputs] == [
        ("image", "IMAGE"), ("seed", "INT"), ("amount", "FLOAT"), ("name", "STRING"), ("on", "BOOLEAN"),
    ]  # fmt: skip
    assert [item.is_required for item in found.inputs] == [True, False, False, False, False]
    assert found.by_name["image"].literal is None
    assert found.by_name["seed"].limits == {"ge": 0, "le": 2**64 - 1}
    assert found.by_name["seed"].widget.control_after_generate
    assert [(output.name, output.port) for output in found.outputs] == [("IMAGE", "IMAGE")]
    assert (found.kind, found.is_async, found.takes_context) == ("pure", False, False)


def test_choices_are_a_literal_or_a_tuple_of_names() -> None:
    def f(*, a: Sampler, b: Literal["x", "y"] = "y", c: Annotated[str, Choices(("p", "q"))] = "p") -> int: ...

    found = spec(f).by_name
    assert [found[name].choices for name in "abc"] == [("euler", "heun"), ("x", "y"), ("p", "q")]
    assert {found[name].port for name in "abc"} == {"COMBO"}


def test_optional_is_the_same_in_every_spelling() -> None:
    def f(
        *, a: Image | None = None, b: Optional[Image] = None,  # noqa: UP045
        c: Annotated[object | None, Port("IMAGE")] = None,
       
        d: int | None = None,
    ) -> int: ...  # fmt: skip

    found = spec(f)
    assert [item.port for item in found.inputs] == ["IMAGE", "IMAGE", "IMAGE", "INT"]
    assert all(item.default is None for item in found.inputs)


def test_lists_lazy_inputs_any_and_files() -> None:
    async def f(
        *, ctx: Context, items: list[Image], lazy: Lazy[Image], bare: Lazy, any: Any, same: T,
         # type: ignore[valid-type, type-arg]
        lora: Annotated[FileRef, File("loras")], picture: Annotated[str, File("input"),
        Widget(image_upload=True)] = "a.png",
    ) -> T: ...  # fmt: skip

    found = spec(f)
    assert found.takes_context and found.kind == "control" and "ctx" not in found.by_name
    assert (found.by_name["items"].is_list, found.by_name["items"].port) == (True, "IMAGE")
    assert (found.by_name["lazy"].is_lazy, found.by_name["lazy"].port) == (True, "IMAGE")
    assert found.by_name["bare"].port == found.by_name["any"].port == found.by_name["same"].port == ANY
    assert found.by_name["lora"].file == File("loras")
    assert found.by_name["picture"].default == "a.png"
    assert found.by_name["picture"].widget.image_upload


def test_names_that_no_parameter_can_have_are_inputs_all_alike() -> None:
    def blocks(*, image: Image, **ratios: Annotated[float, Field(ge=0.0), Names(("in.0.", "out."), 0.5)]) -> None:
        """Ratios.

        Args:
            ratios: How much.
        """

    inputs = spec(blocks).inputs
    assert [item.name for item in inputs] == ["image", "in.0.", "out."]
    assert {(item.port, item.default, item.limits["ge"], item.doc) for item in inputs[1:]} == {
        ("FLOAT", 0.5, 0.0, "How much.")
    }


def test_outputs_are_none_one_several_or_each() -> None:
    def none(*, a: int) -> None: ...
    def two(*, a: int) -> Two: ...
    def one(*, a: int) -> One: ...
    def each(*, a: int) -> Each[Image]: ...
    def anything(*, a: T) -> T: ...

    assert spec(none).outputs == ()
    assert [(output.name, output.port) for output in spec(two).outputs] == [("image", "IMAGE"), ("count", "INT")]
    assert spec(two).slots == {"image": 0, "count": 1}
    assert [(output.name, output.port) for output in spec(one).outputs] == [("seed", "INT")]
    assert (spec(each).outputs[0].port, spec(each).outputs[0].is_each) == ("IMAGE", True)
    assert spec(anything).outputs[0].port == ANY


def test_every_way_to_declare_gives_the_same_fields() -> None:
    def plain(*, seed: Annotated[int, Field(ge=0, le=2**64 - 1), Widget(control_after_generate=True)] = 3) -> int: ...
    def alias(*, seed: Seed = 3) -> int: ...
    def optional(*, seed: Seed | None = 3) -> int: ...

    fields = [
        [(item.name, item.port, item.default, item.limits, item.widget) for item in spec(f).inputs]
        for f in (plain, alias, optional)
    ]
    assert fields[0] == fields[1] == fields[2]


def test_documents_come_from_the_docstring() -> None:
    def f(*, a: int, b: int) -> int:
        """Add two numbers.

        More of it.

        Args:
            a: The first,
                over two lines.
            b: The second.

        Returns:
            int: the sum
        """

    found = spec(f)
    assert found.doc.startswith("Add two numbers.\n\nMore of it.")
    assert found.by_name["a"].doc == "The first, over two lines."
    assert found.by_name["b"].doc == "The second."


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    @node("MakeImage", category="a/b", version="2", kind="sink", lane="io", cache=False)
    def f(*, a: int = 1) -> int:
        return a

    found = getattr(f, NODE_ATTRIBUTE)
    assert f(a=5) == 5
    assert (found.title, found.category, found.version, found.kind, found.lane) == (
        "Make Image",
        "a/b",
        "2",
        "sink",
        "io",
    )
    assert not found.is_cached
    assert found.by_name["a"].default == 1 and MISSING.__repr__() == "required"


def test_literals_are_converted_and_checked() -> None:
    def f(*, n: Annotated[int, Field(ge=1)], x: float, s: str, on: bool, c: Sampler) -> int: ...

    validate = spec(f).validate
    found = validate({"n": 3.0, "x": 2, "s": 7, "on": "true", "c": "heun", "other": object()})
    assert found == {"n": 3, "x": 2.0, "s": "7", "on": True, "c": "heun"}
    assert [type(value) for value in found.values()] == [int, float, str, bool, str]
    for wrong in (
        {"n": 0},
        {"n": 1.5},
        {"x": float("nan")},
        {"x": float("inf")},
        {"c": "eulr"},
        {"x": 10**400},
        {"s": []},
    ):
        with pytest.raises(ValidationError):
            validate(wrong)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f(a: int) -> int: ...", "parameter 'a' must be keyword-only; put `\\*,` before it"),
        ("def f(*a: int) -> int: ...", "parameter 'a' must be keyword-only"),
        ("def f(*, a) -> int: ...", "parameter 'a' has no type; annotate it"),
        ("def f(*, a: Missing) -> int: ...", "an annotation cannot be read .*; import the names it uses"),
        ("def f(*, a: Lazy[int]) -> int: ...", "a node with Lazy inputs must be `async def`"),
        ("def f(*, a: dict) -> int: ...", "a has type <class 'dict'>, which is no port; write Annotated"),
        ("def f(*, a: int) -> dict: ...", "result type <class 'dict'> is no port; write Annotated"),
        ("def f(*, a: FileRef) -> int: ...", "a is a FileRef of no kind; write Annotated"),
        ("def f(*, a: Literal['x', 'y'] = 'z') -> int: ...", "the default of a, 'z', is not one of its choices"),
        ("def f(*, a: int | str) -> int: ...", "a has type int | str, which is no port"),
    ],
)
def test_a_wrong_definition_is_told_with_its_fix(source: str, message: str) -> None:
    names: dict[str, Any] = {"__name__": "typed", "Lazy": Lazy, "FileRef": FileRef, "Literal": Literal}
    exec("from __future__ import annotations\n" + source, names)
    with pytest.raises(DefinitionError, match=message):
        spec_of(names["f"], "N")


def test_code_typed_at_a_prompt_has_a_version_of_its_constants() -> None:
    def version(source: str) -> str:
        module = types.ModuleType("prompt")
        exec(source, module.__dict__)
        return source_digest(module.__dict__["f"])

    assert version("def f(*, a: int) -> int:\n return a + 1") != version("def f(*, a: int) -> int:\n return a + 2")
    assert version("def f(*, a: int) -> int:\n return a + 1") == version("def f(*, a: int) -> int:\n return a + 1")
    assert version("def f():\n return [x + 1 for x in ()]") != version("def f():\n return [x + 2 for x in ()]")


PACKAGE = """
from .helper import FACTOR
from nodegraph.spec import node

@node("Scale", category="t")
def scale(*, a: int = 1) -> int:
    return a * FACTOR
"""


def test_an_edit_of_a_helper_module_changes_the_version_of_a_package_and_its_behaviour(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text(PACKAGE)
    found: list[NodeSpec] = []
    for factor in (2, 30):
        (tmp_path / "pack" / "helper.py").write_text(f"FACTOR = {factor}\n")
        for cached in (tmp_path / "pack").glob("__pycache__/*"):
            cached.unlink()
        registry = Registry().with_folder(tmp_path)
        assert not registry.failures
        found.append(registry.specs["Scale"])
    assert [spec.function(a=1) for spec in found] == [2, 30]
    assert found[0].version != found[1].version
    assert not [name for name in sys.modules if name.split(".")[0] == "pack"]


@pytest.mark.parametrize(
    ("name", "title"),
    [("KSampler", "KSampler"), ("CLIPTextEncodeSDXL", "CLIP Text Encode SDXL"), ("SamplerER_SDE", "Sampler ER SDE"),
     ("SamplerDPMPP_2M_SDE", "Sampler DPMPP 2M SDE"), ("SDTurboScheduler", "SD Turbo Scheduler")],
)  # fmt: skip
def test_a_name_is_put_into_words(name, title):
    def made(*, value: int = 0) -> int:
        return value

    assert spec_of(made, name).title == title
