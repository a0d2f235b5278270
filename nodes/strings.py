"""Texts: put together, taken apart, compared, and searched with regular expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from pydantic import Field

from nodegraph.spec import node
from nodegraph.types import Choices
from nodes.primitive import Multiline

if TYPE_CHECKING:
    from regex import Pattern

T = TypeVar("T")

Case = Annotated[str, Choices(("UPPERCASE", "lowercase", "Capitalize", "Title Case"))]
Ends = Annotated[str, Choices(("Both", "Left", "Right"))]
Comparison = Annotated[str, Choices(("Starts With", "Ends With", "Equal"))]
Extraction = Annotated[str, Choices(("First Match", "All Matches", "First Group", "All Groups"))]
UpTo100 = Annotated[int, Field(ge=0, le=100)]

REGEX_SECONDS = 5.0


class Length(NamedTuple):
    """The length of a text."""

    length: int


class Contains(NamedTuple):
    """Whether a text is part of another."""

    contains: bool


class Matches(NamedTuple):
    """Whether a pattern is found."""

    matches: bool


@node("StringConcatenate", category="utils/string", title="Concatenate")
def concatenate(*, string_a: Multiline, string_b: Multiline, delimiter: str = "") -> str:
    """Two texts as one.

    Args:
        string_a: The first.
        string_b: The second.
        delimiter: What stands between them.
    """
    return string_a + delimiter + string_b


@node("StringSubstring", category="utils/string", title="Substring")
def substring(*, string: Multiline, start: int, end: int) -> str:
    """Part of a text.

    Args:
        string: The text.
        start: The first character of the part, from 0; below 0 it is counted from the end.
        end: The character after the part; below 0 it is counted from the end.
    """
    return string[start:end]


@node("StringLength", category="utils/string", title="Length")
def string_length(*, string: Multiline) -> Length:
    """How many characters a text has.

    Args:
        string: The text.
    """
    return Length(len(string))


@node("CaseConverter", category="utils/string", title="Case Converter")
def convert_case(*, string: Multiline, mode: Case) -> str:
    """A text in other letters.

    Args:
        string: The text.
        mode: `Capitalize` makes the first letter large and all others small, `Title Case` does so for each word.
    """
    convert = {"UPPERCASE": str.upper, "lowercase": str.lower, "Capitalize": str.capitalize, "Title Case": str.title}
    return convert[mode](string)


@node("StringTrim", category="utils/string", title="Trim")
def trim(*, string: Multiline, mode: Ends) -> str:
    """A text without the spaces and line ends around it.

    Args:
        string: The text.
        mode: At which ends.
    """
    return {"Both": str.strip, "Left": str.lstrip, "Right": str.rstrip}[mode](string)


@node("StringReplace", category="utils/string", title="Replace")
def replace_text(*, string: Multiline, find: Multiline, replace: Multiline) -> str:
    """A text with every occurrence of one part replaced.

    Args:
        string: The text.
        find: What is replaced.
        replace: By what.
    """
    return string.replace(find, replace)


@node("StringContains", category="utils/string", title="Contains")
def contains(*, string: Multiline, substring: Multiline, case_sensitive: bool = True) -> Contains:
    """Whether a text is part of another.

    Args:
        string: The whole.
        substring: The part.
        case_sensitive: Large and small letters differ.
    """
    if not case_sensitive:
        string, substring = string.lower(), substring.lower()
    return Contains(substring in string)


@node("StringCompare", category="utils/string", title="Compare")
def compare(*, string_a: Multiline, string_b: Multiline, mode: Comparison, case_sensitive: bool = True) -> bool:
    """Whether two texts are equal, or one begins or ends with the other.

    Args:
        string_a: The text.
        string_b: What it is compared with.
        mode: How.
        case_sensitive: Large and small letters differ.
    """
    if not case_sensitive:
        string_a, string_b = string_a.lower(), string_b.lower()
    return {"Starts With": str.startswith, "Ends With": str.endswith, "Equal": str.__eq__}[mode](string_a, string_b)


def _bad_pattern(*, regex_pattern: str = "", **_: Any) -> Iterator[str]:
    try:
        _compiled(regex_pattern)
    except ValueError as error:
        yield str(error)


@node("RegexMatch", category="utils/string", title="Regex Match", check=_bad_pattern)
def regex_match(
    *, string: Multiline, regex_pattern: Multiline, case_insensitive: bool = True, multiline: bool = False,
    dotall: bool = False,
) -> Matches:  # fmt: skip
    """Whether a regular expression is found in a text; an error where the search takes longer than five seconds.

    Args:
        string: The text.
        regex_pattern: As Python writes them.
        case_insensitive: Large and small letters are the same.
        multiline: ^ and $ are the ends of lines, not of the text.
        dotall: A dot is also the end of a line.
    """
    pattern = _compiled(regex_pattern, case_insensitive, multiline, dotall)
    return Matches(bounded(lambda seconds: pattern.search(string, timeout=seconds) is not None))


@node("RegexExtract", category="utils/string", title="Regex Extract", check=_bad_pattern)
def regex_extract(
    *, string: Multiline, regex_pattern: Multiline, mode: Extraction, case_insensitive: bool = True,
    multiline: bool = False, dotall: bool = False, group_index: UpTo100 = 1,
) -> str:  # fmt: skip
    """What a regular expression finds in a text, empty if nothing; an error where that takes longer than five seconds.

    Args:
        string: The text.
        regex_pattern: As Python writes them.
        mode: The first match or all, one a line; whole, or one group of each. `All Matches` gives the first group of
            a pattern that has groups.
        case_insensitive: Large and small letters are the same.
        multiline: ^ and $ are the ends of lines, not of the text.
        dotall: A dot is also the end of a line.
        group_index: Which group, from 1; 0 is the whole match.
    """
    pattern = _compiled(regex_pattern, case_insensitive, multiline, dotall)
    group = group_index if mode.endswith("Group") or mode == "All Groups" else 0
    if mode == "All Matches":
        group = min(pattern.groups, 1)
    if group > pattern.groups or (mode == "All Groups" and not pattern.groups):
        return ""

    def extract(seconds: float) -> str:
        if mode.startswith("First"):
            match = pattern.search(string, timeout=seconds)
            return "" if match is None else match.group(group) or ""
        found = [match.group(group) for match in pattern.finditer(string, timeout=seconds)]
        if mode == "All Matches":
            return "\n".join(text or "" for text in found)
        return "\n".join(text for text in found if text is not None)

    return bounded(extract)


@node("RegexReplace", category="utils/string", title="Regex Replace", check=_bad_pattern)
def regex_replace(
    *, string: Multiline, regex_pattern: Multiline, replace: Multiline, case_insensitive: bool = True,
    multiline: bool = False, dotall: bool = False, count: UpTo100 = 0,
) -> str:  # fmt: skip
    r"""A text with what a regular expression finds replaced; an error where that takes longer than five seconds.

    Args:
        string: The text.
        regex_pattern: As Python writes them.
        replace: By what; `\1` or `\g<name>` is what a group found.
        case_insensitive: Large and small letters are the same.
        multiline: ^ and $ are the ends of lines, not of the text.
        dotall: A dot is also the end of a line.
        count: How many are replaced at most; 0 for all.
    """
    from regex import error

    pattern = _compiled(regex_pattern, case_insensitive, multiline, dotall)
    try:
        return bounded(lambda seconds: pattern.sub(replace, string, count=count, timeout=seconds))
    except (error, IndexError) as problem:
        raise ValueError(f"replace is {replace!r}: {problem}; write \\\\ for a backslash") from None


def _compiled(
    regex_pattern: str, case_insensitive: bool = True, multiline: bool = False, dotall: bool = False
) -> Pattern[str]:
    """The pattern, by the `regex` package: Python's own cannot be stopped.

    Raises:
        ValueError: it is no regular expression.
    """
    import regex

    flags = regex.IGNORECASE * case_insensitive | regex.MULTILINE * multiline | regex.DOTALL * dotall
    try:
        return regex.compile(regex_pattern, flags)
    except regex.error as problem:
        raise ValueError(f"regex_pattern {regex_pattern!r} is no regular expression: {problem}") from None


def bounded(search: Callable[[float], T], seconds: float = REGEX_SECONDS) -> T:
    """The result of a search, given the seconds it may take.

    Raises:
        ValueError: it took longer, as patterns with nested repetitions do.
    """
    try:
        return search(seconds)
    except TimeoutError:
        raise ValueError(
            f"the regular expression did not come to an end in {seconds:g} seconds; write it without repetitions "
            "inside repetitions, such as (a+)+"
        ) from None
