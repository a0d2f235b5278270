"""The node types at hand: built-ins and packages by entry point, and folders of `.py` files the user has named."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from nodegraph.errors import DefinitionError, nearest
from nodegraph.spec import NODE_ATTRIBUTE, NodeSpec, digest_of_sources

ENTRY_POINTS = "nodegraph.nodes"


@dataclass(frozen=True)
class Registry:
    """An immutable table of node types; adding makes a new one, so a failure leaves the old one as it was.

    Attributes:
        specs: by `class_type`.
        failures: files of node folders that did not load, with the reason.
    """

    specs: Mapping[str, NodeSpec] = field(default_factory=dict[str, NodeSpec])
    failures: Mapping[str, str] = field(default_factory=dict[str, str])

    def get(self, class_type: str) -> NodeSpec | None:
        """The node type of this id, or None."""
        return self.specs.get(class_type)

    def nearest(self, class_type: str) -> str | None:
        """The known id most like this one, or None."""
        return nearest(class_type, self.specs)

    def __iter__(self) -> Iterator[NodeSpec]:
        return iter(self.specs.values())

    def __len__(self) -> int:
        return len(self.specs)

    def with_specs(self, specs: Iterable[NodeSpec]) -> Registry:
        """A registry with these added.

        Raises:
            DefinitionError: an id is taken by another function.
        """
        merged = dict(self.specs)
        for spec in specs:
            other = merged.get(spec.name)
            if other is not None and other.function is not spec.function:
                raise DefinitionError(
                    f"node {spec.name!r} is defined in {other.module} and again in {spec.module}; rename one of them"
                )
            merged[spec.name] = spec
        return Registry(merged, self.failures)

    def with_module(self, module: ModuleType) -> Registry:
        """A registry with the nodes of a module added, and for a package those of its direct modules."""
        modules = [module]
        if hasattr(module, "__path__"):
            names = sorted(found.name for found in pkgutil.iter_modules(module.__path__) if not found.ispkg)
            modules += [importlib.import_module(f"{module.__name__}.{name}") for name in names]
        return self.with_specs(spec for each in modules for spec in specs_in(each))

    def with_entry_points(self) -> Registry:
        """A registry with the built-in nodes and those of installed packages added."""
        registry, failures = self, dict(self.failures)
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
            try:
                registry = registry.with_module(entry.load())
            except Exception as error:  # one broken package must not take the others with it
                failures[f"package {entry.value}"] = str(error) if isinstance(error, DefinitionError) else repr(error)
        return Registry(registry.specs, failures)

    def with_folder(self, folder: Path | str) -> Registry:
        """A registry with every `.py` file and package of a folder added.

        A file that fails is noted in `failures` and leaves the others alone.

        Raises:
            DefinitionError: the folder does not exist.
        """
        root = Path(folder).expanduser().resolve()
        if not root.is_dir():
            raise DefinitionError(f"node folder {str(root)!r} does not exist; create it or correct --node-path")
        registry, failures = self, dict(self.failures)
        files = [path for path in sorted(root.glob("*.py")) if path.stem != "__init__"]
        for file in [*files, *sorted(root.glob("*/__init__.py"))]:
            try:
                registry = registry.with_specs(specs_in(_load_file(file)))
            except Exception as error:  # a user's file may fail in any way; the rest must still load
                failures[str(file)] = str(error) if isinstance(error, DefinitionError) else repr(error)
        return Registry(registry.specs, failures)


def specs_in(module: ModuleType) -> list[NodeSpec]:
    """The nodes a module defines, in order; those it merely imports are left out."""
    found: dict[str, NodeSpec] = {}
    for value in vars(module).values():
        spec: Any = getattr(value, NODE_ATTRIBUTE, None)
        if isinstance(spec, NodeSpec) and spec.module.partition(".")[0] == module.__name__.partition(".")[0]:
            if spec.name in found and found[spec.name].function is not spec.function:
                raise DefinitionError(f"node {spec.name!r} is defined twice in {module.__name__}; rename one of them")
            found[spec.name] = spec
    return list(found.values())


def _load_file(file: Path) -> ModuleType:
    """Imports a user's file under a name of its own, so that equal file names in two folders do not meet."""
    place = file.parent if file.stem == "__init__" else file
    name = f"nodegraph_user_{hashlib.blake2b(str(place).encode(), digest_size=6).hexdigest()}_{place.stem}"
    is_package = file.stem == "__init__"
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(file.parent)] if is_package else None
    )
    if spec is None or spec.loader is None:
        raise DefinitionError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    for old in [old for old in sys.modules if old == name or old.startswith(name + ".")]:
        del sys.modules[old]  # loaded before: its modules are read again too
    digest_of_sources.cache_clear()
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
