"""The data folder: models in ComfyUI's layout over several roots, input, output and temp; files by name and content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from nodegraph.errors import FileProblem, StorageError, did_you_mean
from nodegraph.events import SavedFile
from nodegraph.types import FileRef

WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl")
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
BLOCK_BYTES = 16 << 20
CLAIMS = ".unfinished"  # hidden folder of hard links to the files that runs under way have saved

MODEL_KINDS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",), "loras": ("loras",), "vae": ("vae",), "text_encoders": ("text_encoders", "clip"),
    "diffusion_models": ("diffusion_models", "unet"), "clip_vision": ("clip_vision",), "configs": ("configs",),
    "style_models": ("style_models",), "embeddings": ("embeddings",), "diffusers": ("diffusers",),
    "vae_approx": ("vae_approx",), "controlnet": ("controlnet", "t2i_adapter"), "gligen": ("gligen",),
    "upscale_models": ("upscale_models",), "hypernetworks": ("hypernetworks",), "photomaker": ("photomaker",),
    "annotators": ("annotators",),
}  # fmt: skip
"""Kinds of models and the folders of each, as ComfyUI names them; `annotators` hold what preprocessors use."""

PAIRS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "vae": {name: (f"{name}_decoder", f"{name}_encoder") for name in ("taesd", "taesdxl")},
}
"""Names among a kind that stand for two files in `vae_approx`, as ComfyUI has them; the first must be there."""

FOLDER_KINDS: Mapping[str, str] = {
    "checkpoints": "model_index.json", "diffusers": "model_index.json", "annotators": "config.json",
}  # fmt: skip
"""Kinds of which a model may be a folder, as diffusers and transformers save them, and the file that marks one."""

NESTED_KINDS = ("annotators",)  # found in subfolders by name alone, too: nodes look for them under well-known names
ALIASES = {folder: kind for kind, folders in MODEL_KINDS.items() for folder in folders}
SAVED_MODELS = ("checkpoints", "clip", "vae", "diffusion_models", "loras")
"""Folders of the output folder that are searched as well: nodes that save models put them there, as ComfyUI's do."""
Digest = Callable[[str, os.stat_result, Callable[[], str]], str]


def default_home() -> Path:
    """The data folder: `NODEGRAPH_HOME`, else the platform's place for user data."""
    named = os.environ.get("NODEGRAPH_HOME")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("nodegraph", appauthor=False))


@dataclass(frozen=True)
class Folders:
    """Where files are: a home, and for each kind of model the folders searched, in order.

    Attributes:
        home: holds `models`, `input`, `output`, `temp`, `cache`, `workflows`.
        models: folders by kind; the first match wins.
        output: where pictures go.
        workflows: folders searched for workflows by name.
        digest: memo for content digests; by default none.
        places: where each content was found last, by its digest.
    """

    home: Path
    models: Mapping[str, tuple[Path, ...]]
    output: Path
    workflows: tuple[Path, ...] = ()
    digest: Digest = field(default=lambda path, status, compute: compute(), repr=False)
    places: dict[str, str] = field(default_factory=dict[str, str], repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def of(
        cls, home: Path | None = None, *, roots: Iterable[Path] = (), extra: Path | None = None,
        output: Path | None = None, shipped: Iterable[Path] = (), workflows: Iterable[Path] = (),
    ) -> Folders:  # fmt: skip
        """The folders of a home, of further model roots, of an `extra_model_paths.yaml`, and those packages ship.

        Raises:
            FileProblem: the YAML file is missing or malformed.
        """
        home = (home or default_home()).absolute()
        output = (output or home / "output").absolute()
        found: dict[str, list[Path]] = {kind: [] for kind in MODEL_KINDS}
        listed = extra or (home / "extra_model_paths.yaml" if (home / "extra_model_paths.yaml").is_file() else None)
        named, defaults = ({}, {}) if listed is None else _extra_paths(listed)
        for kind, paths in defaults.items():
            found.setdefault(kind, []).extend(paths)
        for root in [home / "models", *roots]:
            for kind, names in MODEL_KINDS.items():
                found[kind] += [root / name for name in names]
        for kind, paths in named.items():
            found.setdefault(kind, []).extend(paths)
        for folder in SAVED_MODELS:
            found[ALIASES[folder]].append(output / folder)
        for root in shipped:
            for kind, names in MODEL_KINDS.items():
                found[kind] += [root / name for name in names]
        folders = {kind: tuple(dict.fromkeys(paths)) for kind, paths in found.items()}
        return cls(home, folders, output, (home / "workflows", *workflows))

    def roots(self, kind: str) -> tuple[Path, ...]:
        """The folders searched for a kind, in order."""
        if kind in ("input", "temp"):
            return (self.home / kind,)
        if kind == "output":
            return (self.output,)
        if kind == "workflows":
            return self.workflows
        return self.models.get(ALIASES.get(kind, kind), ())

    def names(self, kind: str) -> list[str]:
        """Names of the files of a kind, sorted, with `/` between folders."""
        found: set[str] = set()
        for root in self.roots(kind):
            found.update(path.relative_to(root).as_posix() for path in _files(root, kind))
        listed = sorted(found, key=lambda name: (name.count("/") > 0, name.casefold()))
        return [*listed, *(name for name in PAIRS.get(kind, {}) if self._pair(kind, name))]

    def path(self, kind: str, name: str) -> Path:
        """The place of a named file.

        Raises:
            FileProblem: there is none, or the name leads out of its folder.
        """
        kind, clean = _split(kind, name)
        for root in self.roots(kind):
            path = root / clean
            if path.is_file() or (kind in FOLDER_KINDS and (path / FOLDER_KINDS[kind]).is_file()):
                return path
        if kind in NESTED_KINDS and "/" not in clean:
            same = next((each for each in self.names(kind) if each.endswith(f"/{clean}")), None)
            if same is not None:
                return self.path(kind, same)
        if not self.roots(kind):
            raise FileProblem(f"{kind!r} is no kind of file; one of {', '.join(MODEL_KINDS)}, input, output, temp")
        if pair := self._pair(kind, clean):
            return pair[0]
        fix = _near(clean, self.names(kind)) or f"put it in {self.roots(kind)[0]}"
        raise FileProblem(f"{name!r} is not among the {kind}; {fix}")

    def find(self, kind: str, name: str) -> FileRef:
        """A named file with the digest of its content.

        Raises:
            FileProblem: there is none, it cannot be read, or the name leads out of its folder.
        """
        path = self.path(kind, name)
        try:
            contents = [self.content(file) for file in self._pair(kind, name) or [path]]
            digest = "-".join(contents)
            self.places[digest] = str(path)
            return FileRef(name, str(path), digest)
        except OSError as error:
            raise FileProblem(f"{name!r} cannot be read: {error.strerror or error}") from error

    def _pair(self, kind: str, name: str) -> list[Path]:
        """The files that a name stands for, one or both; none where it is not of `PAIRS` or they are not there."""
        stems = PAIRS.get(kind, {}).get(name)
        files = {} if stems is None else {Path(file).stem: file for file in reversed(self.names("vae_approx"))}
        if stems is None or stems[0] not in files:
            return []
        return [self.path("vae_approx", files[stem]) for stem in stems if stem in files]

    def content(self, path: Path) -> str:
        """Digest of a file's content, or of all files in a folder with their names."""
        if path.is_dir():
            state = hashlib.sha256()
            for file in sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
                state.update(f"{file.relative_to(path).as_posix()}\0{self.content(file)}\0".encode())
            return state.hexdigest()
        real = path.resolve()
        return self.digest(str(real), real.stat(), lambda: content_digest(real))

    def save(
        self, kind: str, prefix: str, extension: str, write: Callable[[BinaryIO], None],
        claim: tuple[str, str] | None = None,
    ) -> SavedFile:  # fmt: skip
        """Writes a new file `{prefix}_{counter:05}_.{extension}` under `output` or `temp`.

        The file gets its name when it is whole, so a killed run leaves none. The counter is ComfyUI's: one more than
        the highest in the folder.

        Args:
            kind: `output` or `temp`.
            prefix: start of the name, with folders before it.
            extension: its end.
            write: writes the content.
            claim: a run, and which of its files this is, the same when the run is tried again after a crash: a file
                that the earlier attempt put in place is taken, not written twice. It holds until `settle`.

        Raises:
            FileProblem: the prefix leads out of the folder.
            StorageError: the disk is full or cannot be written.
        """
        root = self.output if kind == "output" else self.home / kind
        _, clean = _split(kind, prefix or "nodegraph")
        subfolder, stem = str(PurePosixPath(clean).parent), PurePosixPath(clean).name
        folder = root / subfolder
        claimed = None if claim is None else _claims(root, claim[0]) / f"{claim_name(claim[1])}.{extension}"
        draft = (folder if claimed is None else claimed.parent) / f".{secrets.token_hex(6)}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            draft.parent.mkdir(parents=True, exist_ok=True)
            path = None if claimed is None else _placed(claimed, folder)
            if path is None:
                try:
                    with open(draft, "xb") as file:
                        write(file)
                    if claimed is not None:
                        draft = draft.replace(claimed)
                    with self._lock:
                        path = _take_name(draft, folder, stem, extension)
                finally:
                    if draft != claimed:
                        with contextlib.suppress(OSError):
                            draft.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be written: {error.strerror or error}; nothing was saved there"
            ) from error
        place = "" if subfolder == "." else subfolder
        named = "output" if kind == "output" else "temp"
        return SavedFile(path.name, place, named, str(path), path.stat().st_size, extension)

    def settle(self, run: str) -> None:
        """Forgets the claims of a run, once it is known to be over."""
        for root in (self.output, self.home / "temp"):
            shutil.rmtree(_claims(root, run), ignore_errors=True)

    def settle_others(self, runs: Iterable[str]) -> None:
        """Forgets the claims of all runs but these."""
        for name in self.claims() - set(map(claim_name, runs)):
            for root in (self.output, self.home / "temp"):
                shutil.rmtree(root / CLAIMS / name, ignore_errors=True)

    def claims(self) -> set[str]:
        """Names of the runs that have claims, as `claim_name` makes them."""
        return {path.name for root in (self.output, self.home / "temp") for path in (root / CLAIMS).glob("*")}


def stamp(path: str, status: os.stat_result, compute: Callable[[], str]) -> str:
    """Size and time of a file in place of its digest, at no cost."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def content_digest(path: Path) -> str:
    """Content digest of a file: SHA-256 over the SHA-256 of its 16 MiB blocks, worked out by several threads."""
    size = path.stat().st_size
    starts = range(0, size, BLOCK_BYTES)

    def block(start: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(BLOCK_BYTES)).digest()

    if len(starts) <= 1:
        blocks: Iterable[bytes] = map(block, starts)
        return hashlib.sha256(b"".join(blocks)).hexdigest()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return hashlib.sha256(b"".join(pool.map(block, starts))).hexdigest()


def _split(kind: str, name: str) -> tuple[str, str]:
    """Checks a name and reads ComfyUI's suffix: `a.png [output]` -> (`output`, `a.png`).

    Raises:
        FileProblem: the name is empty, absolute, or leads out of its folder.
    """
    match = re.fullmatch(r"(.*) \[(input|output|temp)\]", name, re.DOTALL)
    if match and kind in ("input", "output", "temp"):
        name, kind = match.group(1), match.group(2)
    clean = name.replace("\\", "/").strip()
    parts = clean.split("/")
    if not clean or clean.startswith("/") or ".." in parts or "\0" in clean or re.match(r"[A-Za-z]:", clean):
        raise FileProblem(
            f"{name!r} is not the name of a file inside the {kind} folder; write it relative to that folder"
        )
    return kind, clean


def _files(root: Path, kind: str) -> Iterator[Path]:
    if kind == "diffusers":
        yield from (path.parent for path in root.glob("**/model_index.json"))
        return
    wanted = {"input": IMAGES, "output": IMAGES, "temp": IMAGES, "workflows": (".json",), "configs": (".yaml", ".json")}
    suffixes = wanted.get(kind, WEIGHTS)
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if kind in FOLDER_KINDS and FOLDER_KINDS[kind] in files and Path(folder) != root:
            folders.clear()
            yield Path(folder)
            continue
        yield from (
            Path(folder, name) for name in files if name.lower().endswith(suffixes) and not name.startswith(".")
        )


def _near(name: str, names: list[str]) -> str | None:
    base = PurePosixPath(name).name
    same = next((other for other in names if PurePosixPath(other).name == base), None)
    return f"did you mean {same!r}?" if same else did_you_mean(name, names)


def _claims(root: Path, run: str) -> Path:
    return root / CLAIMS / claim_name(run)


def claim_name(text: str) -> str:
    """A file name for any text: ids of runs and nodes may hold what leads out of a folder, or be too long."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _placed(claimed: Path, folder: Path) -> Path | None:
    """The file that an earlier attempt linked to a claim. The link itself is the record, so no crash comes between."""
    try:
        status = claimed.stat()
    except FileNotFoundError:
        return None
    if status.st_nlink < 2:
        return None
    return next((path for path in folder.iterdir() if path.is_file() and path.samefile(claimed)), None)


def _take_name(draft: Path, folder: Path, stem: str, extension: str) -> Path:
    """Gives a finished file the next free name; never replaces one, even against another process."""
    pattern = re.compile(re.escape(stem) + r"_(\d+)_?\.", re.IGNORECASE)
    numbers = [int(match.group(1)) for name in os.listdir(folder) if (match := pattern.match(name))]
    counter = max(numbers, default=0) + 1
    while True:
        path = folder / f"{stem}_{counter:05}_.{extension}"
        try:
            os.link(draft, path)
            return path
        except FileExistsError:
            counter += 1
        except OSError:  # a file system without hard links
            if not path.exists():
                os.replace(draft, path)
                return path
            counter += 1


def _extra_paths(file: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Reads ComfyUI's `extra_model_paths.yaml` -> (folders by kind, those of sections marked `is_default`)."""
    import yaml

    try:
        sections: Any = yaml.safe_load(file.read_text("utf-8")) or {}
    except OSError as error:
        raise FileProblem(f"{file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise FileProblem(f"{file} is not YAML: {error}") from error
    if not isinstance(sections, dict):
        raise FileProblem(f"{file} has no sections; write `name:` and under it `base_path:` and `checkpoints:`")
    found: tuple[dict[str, list[Path]], dict[str, list[Path]]] = ({}, {})
    for name, section in cast("dict[Any, Any]", sections).items():
        if section is None:
            continue
        if not isinstance(section, dict):
            raise FileProblem(f"{file}: section {name!r} is not a table of folders")
        table = cast("dict[str, Any]", section)
        base = file.parent / os.path.expandvars(os.path.expanduser(str(table.get("base_path", ""))))
        target = found[1] if table.get("is_default") else found[0]
        for kind, places in table.items():
            if kind in ("base_path", "is_default") or not places:
                continue
            paths = [base / os.path.expanduser(line.strip()) for line in str(places).splitlines() if line.strip()]
            target.setdefault(ALIASES.get(kind, kind), []).extend(paths)
    return found
