"""Options that verbs share, and a parser whose errors suggest the nearest option."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from nodegraph.errors import NodegraphError, did_you_mean
from nodegraph.session import Settings

UNITS = {
    "": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "KIB": 1 << 10, "MIB": 1 << 20,
    "GIB": 1 << 30, "TIB": 1 << 40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
}  # fmt: skip


class UsageError(NodegraphError):
    """The command line is wrong."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, and that finds the workflow among options it does not know yet."""

    def __init__(self, verb: str, description: str, usage: str) -> None:
        super().__init__(
            prog=f"nodegraph {verb}", description=description, usage=f"nodegraph {verb} {usage}", add_help=False,
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        self.general = self.add_argument_group("options")
        self.general.add_argument("-h", "--help", action="store_true", help="this text")
        self.general.add_argument("-q", "--quiet", action="store_true", help="only errors")
        self.general.add_argument(
            "-v", "--verbose", action="count", default=0, help="tell more, with tracebacks; -vv even more"
        )

    def error(self, message: str) -> NoReturn:
        """Raises UsageError in place of argparse's usage text."""
        raise UsageError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    @property
    def options(self) -> dict[str, argparse.Action]:
        """Actions by option string."""
        return self._option_string_actions

    def add_first_group(self, title: str) -> argparse._ArgumentGroup:  # type: ignore[reportPrivateUsage]
        """A group of options that help shows before the others."""
        group = self.add_argument_group(title)
        self._action_groups.insert(0, self._action_groups.pop())
        return group

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of these words.

        Raises:
            UsageError: an option is unknown; the nearest is named.
        """
        found, rest = self.parse_known_args(self._dashed(words))
        if not rest:
            return found
        name = rest[0].partition("=")[0]
        if not name.startswith("-"):
            raise UsageError(
                f"{rest[0]!r} is one argument too many; write values with spaces in quotes; see {self.prog} --help"
            )
        near = did_you_mean(name, [option for option in self.options if option.startswith("--")])
        raise UsageError(f"option {name} is unknown; " + (f"{near} " if near else "") + f"see {self.prog} --help")

    def parse_some(self, words: Sequence[str]) -> argparse.Namespace:
        """The options of these words as far as they are known."""
        return self.parse_known_args(self._dashed(words))[0]

    def split(self, words: Sequence[str]) -> tuple[str | None, list[str]]:
        """The workflow among the words, and the other words; options of the workflow itself are not known yet."""
        sure, maybe = self._candidates(words)
        if not sure:
            sure = [index for index in maybe if Path(words[index]).is_file()] or maybe
        if not sure:
            return None, list(words)
        return words[sure[0]], [word for index, word in enumerate(words) if index != sure[0]]

    def _candidates(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """Places of words that are no options' values, and of those that may be values of unknown options."""
        sure: list[int] = []
        maybe: list[int] = []
        index = 0
        while index < len(words):
            word = words[index]
            if not word.startswith("-") or word == "-":
                sure.append(index)
            elif "=" not in word and index + 1 < len(words):
                action = self.options.get(word) or self.options.get(word.replace("_", "-"))
                follows = words[index + 1]
                if action is not None:
                    index += action.nargs is None
                elif not re.fullmatch("-v+", word) and (not follows.startswith("-") or follows == "-"):
                    maybe.append(index + 1)
                    index += 1
            index += 1
        return sure, maybe

    def _dashed(self, words: Sequence[str]) -> list[str]:
        """`--negative_prompt` as `--negative-prompt`."""
        found: list[str] = []
        for word in words:
            name, equals, value = word.partition("=")
            dashed = name.replace("_", "-")
            is_spelt_otherwise = name.startswith("--") and name not in self.options and dashed in self.options
            found.append(dashed + equals + value if is_spelt_otherwise else word)
        return found


def add_places(parser: Parser) -> None:
    """Options that say where nodes, models and data are."""
    group = parser.add_argument_group("where things are")
    group.add_argument(
        "--home", type=Path, metavar="DIR", help="data folder (default: $NODEGRAPH_HOME, else the platform's)"
    )
    group.add_argument(
        "--node-path", action="append", default=[], metavar="DIR", help="folder of user nodes (repeatable)"
    )
    group.add_argument("--models", action="append", default=[], type=Path, metavar="DIR",
                       help="folder of models in ComfyUI's layout (repeatable)")  # fmt: skip
    group.add_argument("--extra-model-paths", type=Path, metavar="FILE", help="ComfyUI's YAML file of further folders")


def add_compute(parser: Parser) -> None:
    """Options that say where and how to compute, and what is kept."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps, xpu (default auto)"
    )
    group.add_argument(
        "--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="precision (default auto)"
    )
    group.add_argument(
        "--vram-limit", type=size, metavar="SIZE", help="memory for models and values on the device, e.g. 6GB"
    )
    group.add_argument("--cache-dir", type=Path, metavar="DIR", help="cached results (default: cache in the home)")
    group.add_argument("--no-cache", action="store_true", help="use no earlier result and keep none")
    group.add_argument(
        "-o", "--output-dir", type=Path, metavar="DIR", help="where files are saved (default: output in the home)"
    )


def settings_of(args: argparse.Namespace, *, runs: bool = False) -> Settings:
    """The session's settings from parsed options.

    Args:
        args: of a parser with `add_places`, and perhaps `add_compute`.
        runs: False when nothing will run: then no device is asked for its memory, which may need torch.
    """
    places = Settings(
        home=args.home, node_paths=tuple(args.node_path), model_roots=tuple(args.models),
        extra_model_paths=args.extra_model_paths,
    )  # fmt: skip
    if "device" not in args:
        return replace(places, device="cpu", vram_limit=1)
    return replace(
        places, device=args.device, dtype=args.dtype, vram_limit=args.vram_limit if runs else args.vram_limit or 1,
        keeps=not args.no_cache, cache_dir=args.cache_dir or "", output_dir=args.output_dir,
    )  # fmt: skip


def size(text: str) -> int:
    """`6GB` -> bytes. KB, MB, GB are powers of 1000; KiB, MiB, GiB and K, M, G of 1024."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = UNITS.get(match.group(2).upper()) if match else None
    if match is None or unit is None or float(match.group(1)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write a number with a unit, such as 6GB or 512MiB")
    return int(float(match.group(1)) * unit)


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range; expected a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected seconds above 0")
    return found
