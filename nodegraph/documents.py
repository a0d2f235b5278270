"""Workflow documents where they lie: files, pictures that carry one, and names in the library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from nodegraph.a1111 import Names, from_infotext
from nodegraph.comfy import from_editor
from nodegraph.comfy_file import is_editor_file
from nodegraph.errors import FileProblem, WorkflowError, did_you_mean
from nodegraph.graph import REROUTE, Graph, Ref, input_value
from nodegraph.infotext import is_infotext
from nodegraph.modes import resolve
from nodegraph.registry import Registry
from nodegraph.subgraph import PREFIX, Find
from nodegraph.workflow import Workflow, parsed

PICTURES = (".png", ".webp", ".jpg", ".jpeg")
EXIF, USER_COMMENT = 0x8769, 0x9286  # Exif 2.32, 4.6.3 and 4.6.5


class Document(NamedTuple):
    """A workflow, the place it came from, and what of it could not be carried over."""

    workflow: Workflow
    origin: str
    notes: Sequence[str] = ()


def no_names(kind: str) -> Sequence[str]:
    """Where no files are at hand."""
    return ()


def open_document(name: str | Path, library: Iterable[Path] = (), registry: Registry | None = None,
                  names: Names = no_names) -> Document:  # fmt: skip
    """Reads a workflow from a JSON file, from a picture that carries one, or by its name in the library.

    A text that A1111 wrote, in a file or in a picture without a workflow, becomes a workflow too.

    Args:
        name: a path, or a name such as `text_to_image`.
        library: folders searched for names.
        registry: the node types that name the widgets of ComfyUI's editor files; those of entry points by default.
        names: gives the files of a kind, which A1111's texts name without their endings.

    Raises:
        FileProblem: there is no such file, or the picture carries no workflow.
        WorkflowError: what it holds is no workflow.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path = _in_library(str(name), path, library)
    try:
        if path.suffix.lower() in PICTURES:
            return _of_picture(path, registry, names)._replace(origin=str(path))
        return read_text(path.read_bytes(), str(path), registry, names)
    except OSError as error:
        raise FileProblem(f"{name} cannot be read: {error.strerror or error}") from error


def from_text(text: str | bytes, registry: Registry | None = None) -> Workflow:
    """The workflow of `read_text`."""
    return read_text(text, "", registry).workflow


def read_text(text: str | bytes, origin: str, registry: Registry | None = None, names: Names = no_names) -> Document:
    """Reads a workflow from JSON, our document, ComfyUI's API graph, or a file of its editor; or from A1111's text.

    For `registry` and `names` see `open_document`.

    Raises:
        WorkflowError: it is none of these; every place that is wrong is named.
    """
    written = infotext_in(text)
    if written is not None:
        document, notes = from_infotext(written, names)
        return Document(Workflow.of(document), origin, notes)
    document = parsed(text)
    if is_editor_file(document):
        known = Registry().with_entry_points() if registry is None else registry
        document = from_editor(document, known.get)
    return Document(Workflow.of(document), origin)


def infotext_in(text: str | bytes) -> str | None:
    """A text that A1111 wrote, or None for anything else."""
    decoded = text.decode("utf-8-sig", "replace") if isinstance(text, bytes) else text
    return decoded if is_infotext(decoded) else None  # no line of JSON begins with a bare word


def from_picture(path: Path, registry: Registry | None = None) -> Workflow:
    """The workflow a picture carries: our document under `nodegraph`, else ComfyUI's graph under `prompt`.

    Where there is no `prompt`, what is under `workflow`: our document, as older pictures have it, or ComfyUI's editor
    file; for `registry` see `open_document`. Last comes A1111's text under `parameters`.

    Raises:
        FileProblem: it is not a picture, or carries none.
    """
    return _of_picture(path, registry, no_names).workflow


def _of_picture(path: Path, registry: Registry | None, names: Names) -> Document:
    texts = texts_of(path)
    ours = _ours(texts.get("nodegraph")) or _ours(texts.get("workflow"))
    if ours is not None:
        return Document(ours, "")
    if isinstance(texts.get("prompt"), str):
        return Document(Workflow.parse(texts["prompt"]), "")
    if isinstance(texts.get("workflow"), str):
        return read_text(texts["workflow"], "", registry)
    written = texts.get("parameters")
    if isinstance(written, str) and infotext_in(written) is not None:
        return read_text(written, "", registry, names)
    raise FileProblem(
        f"{path.name} carries no workflow; use a picture saved by nodegraph, ComfyUI or A1111, with its metadata kept"
    )


def texts_of(path: Path) -> dict[str, Any]:
    """The metadata of a picture by name; what is of use there are texts.

    Raises:
        FileProblem: it is not a picture.
    """
    from PIL import Image

    try:
        with cast(Any, Image.open(path)) as picture:  # its `with` has no type
            picture.load()  # text chunks may come after the pixels
            texts: dict[str, Any] = dict(getattr(picture, "text", {}) or picture.info)
            for entry in picture.getexif().values():  # in a WEBP each entry is `key:text`, as ComfyUI writes it
                key, colon, text = str(entry).partition(":")
                if colon:
                    texts.setdefault(key, text)
            comment = _comment(picture.getexif().get_ifd(EXIF).get(USER_COMMENT))
            if comment:
                texts.setdefault("parameters", comment)
    except Exception as error:  # at bytes they do not expect, Pillow's plugins raise whatever there is
        raise FileProblem(f"{path.name} is not a picture that can be read: {error}") from error
    return texts


def _comment(value: Any) -> str:
    """Exif's UserComment, where A1111 has its text in a JPEG or WEBP; its UTF-16 is of either order."""
    if not isinstance(value, bytes):
        return str(value or "")
    code, text = value[:8], value[8:]
    if code != b"UNICODE\0":
        return (text if code in (b"ASCII\0\0\0", b"\0" * 8) else value).decode("utf-8", "replace")
    little = text[1::2].count(0) > text[::2].count(0)
    return text.decode("utf-16-le" if little else "utf-16-be", "replace")


def metadata_of(workflow: Workflow, find: Find) -> dict[str, str]:
    """What a picture carries, read again by `from_picture`: the nodes as ComfyUI reads them, and the whole document.

    The document goes by a name of its own, as ComfyUI takes what is under `workflow` for a file of its editor.
    """
    return {"prompt": json.dumps(comfy_graph(workflow, find)), "nodegraph": json.dumps(workflow.as_json())}


def comfy_graph(workflow: Workflow, find: Find) -> dict[str, Any]:
    """The nodes as ComfyUI's API has them: links by slot number, since it knows no names, and none to skipped nodes.

    Args:
        workflow: the document.
        find: gives a node type by its id.
    """
    graph = workflow.api()
    if any(node.mode is not None or node.class_type == REROUTE for node in workflow.nodes.values()):
        graph = _resolved(workflow, find)
    for node in graph.values():
        node["inputs"] = {name: _by_number(value, workflow, find) for name, value in node["inputs"].items()}
    return graph


def _resolved(workflow: Workflow, find: Find) -> dict[str, Any]:
    """The nodes in ComfyUI's API format, without skipped and muted ones and reroutes."""
    written = Graph.of(workflow)
    nodes = resolve(written, find).graph.nodes
    found = {name: node for name, node in workflow.api().items() if name in nodes}
    for name, node in found.items():
        now, before = nodes[name].inputs, written.nodes[name].inputs
        node["inputs"] = {
            key: value if now[key] is before[key] else _json(now[key])
            for key, value in node["inputs"].items()
            if key in now
        }
    return found


def _json(value: Any) -> Any:
    """A value of a graph as a document has it."""
    if isinstance(value, Ref):
        return [*value]
    return cast(Any, {"__value__": value}) if isinstance(value, list | dict) else value


def _by_number(value: Any, workflow: Workflow, find: Find) -> Any:
    match value:
        case [str(node), str(output)] if node in workflow.nodes and not _is_workflow(workflow, node):
            spec = find(workflow.nodes[node].class_type)
            return [node, spec.slots.get(output, output)] if spec else value
        case _:
            return value


def _is_workflow(workflow: Workflow, node: str) -> bool:
    return workflow.nodes[node].class_type.startswith(PREFIX)


def with_named_links(workflow: Workflow, find: Find) -> Workflow:
    """The same workflow with links by output name, where the node type is known and has one output of that name.

    Args:
        workflow: the document.
        find: gives a node type by its id.
    """
    nodes = {
        name: node.model_copy(
            update={"inputs": {key: _by_name(value, workflow, find) for key, value in node.inputs.items()}}
        )
        for name, node in workflow.nodes.items()
    }
    return workflow.model_copy(update={"nodes": nodes})


def _by_name(value: Any, workflow: Workflow, find: Find) -> Any:
    link: Any = input_value(value)
    if type(link) is not Ref or type(link.slot) is not int or link.node not in workflow.nodes:
        return value
    spec = find(workflow.nodes[link.node].class_type)
    names = [] if spec is None else [output.name for output in spec.outputs]
    if not 0 <= link.slot < len(names) or names.count(names[link.slot]) > 1:
        return value
    return [link.node, names[link.slot]]


def _ours(text: Any) -> Workflow | None:
    """A document of ours; None for ComfyUI's editor file, whose twin under `prompt` is what ran."""
    if not isinstance(text, str):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return Workflow.of(document) if isinstance(document, dict) and "nodegraph" in document else None


def _in_library(name: str, path: Path, library: Iterable[Path]) -> Path:
    names: dict[str, Path] = {}
    for folder in library:
        for file in sorted(folder.glob("**/*.json")):
            names.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
    found = names.get(name.removesuffix(".json"))
    if found is not None:
        return found
    if path.is_dir():
        raise FileProblem(f"{name} is a folder; name a workflow file in it")
    near = did_you_mean(name.removesuffix(".json"), names)
    have = f"the library has {', '.join(names)}" if names else "the library is empty"
    raise FileProblem(f"there is no workflow {name!r}; {near or have}")


def checked_json(text: str | bytes) -> Any:
    """Parsed JSON of command-line inputs; raises WorkflowError with line and column."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkflowError.of(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None
