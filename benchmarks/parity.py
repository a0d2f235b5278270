"""Errors of every case of a parity folder: tensors that ComfyUI computed, made again with the same weights.

    python benchmarks/parity.py DIR [--weights DIR] [--only TEXT] [--aim 1e-4] [--json FILE]

DIR has a `manifest.json` of cases, `inputs.safetensors`, the expected tensors, pictures in `images/` and models in
`weights/`. A case's line has the relative error of its worst tensor (L2 of the difference over L2 of the expected), the
largest absolute difference, and that tensor's name. Exits with 1 when a case is over the bound of its kind or crashes.
On the CPU in fp32, on one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent.parent))  # the cases are run by what the tests share

from nodegraph.files import WEIGHTS
from nodegraph.session import Session
from tests.parity.graphs import Errors, make_home, open_session
from tests.parity.kinds import SkippedCase, cases_of, run

BOUNDS = {"table": 1e-6, "schedule": 1e-6, "ksampler_schedule": 1e-6, "noise": 1e-6, "prompt": 1e-5}
BOUND = 1e-3  # of every other kind
REFUSED = "which is not among the embeddings"  # ComfyUI leaves such a word of a prompt out


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case went; errors of those that ran, a reason for the others."""

    id: str
    kind: str
    status: Literal["ok", "over", "crashed", "skipped", "refused on purpose"]
    reason: str = ""
    errors: Errors = field(default_factory=dict)

    @property
    def worst(self) -> str:
        """The tensor of the largest relative error."""
        return max(self.errors, key=lambda name: self.errors[name][0], default="")

    @property
    def relative(self) -> float:
        """The largest relative error."""
        return max((relative for relative, _ in self.errors.values()), default=0.0)

    @property
    def largest(self) -> float:
        """The largest absolute difference."""
        return max((largest for _, largest in self.errors.values()), default=0.0)

    def line(self) -> str:
        """A line of the table."""
        if not self.errors:
            return f"{self.id:46} {self.status}: {self.reason[:300]}"
        over = "  OVER" if self.status == "over" else ""
        return f"{self.id:46} {self.relative:9.1e} {self.largest:9.1e}  {self.worst}{over}"


def judged(case: dict[str, Any], folder: Path, session: Session) -> Outcome:
    """Runs a case; whatever it raises is its outcome."""
    kind = case["kind"]
    try:
        errors = run(case, folder, session)
    except SkippedCase as skipped:
        return Outcome(case["id"], kind, "skipped", str(skipped))
    except Exception as error:
        if REFUSED in str(error):
            return Outcome(case["id"], kind, "refused on purpose", str(error))
        return Outcome(case["id"], kind, "crashed", f"{type(error).__name__}: {error}".replace("\n", " "))
    if not errors:
        return Outcome(case["id"], kind, "skipped", "it fixes no tensor")
    is_over = any(relative > BOUNDS.get(kind, BOUND) for relative, _ in errors.values())
    return Outcome(case["id"], kind, "over" if is_over else "ok", errors=errors)


def outcomes(folder: Path, weights: Path, only: str) -> Iterator[Outcome]:
    """Runs the cases whose id or kind has `only` in it, in order."""
    models = sorted(path for path in weights.rglob("*") if path.suffix in WEIGHTS) if weights.is_dir() else []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place) / "data"
        make_home(home, folder, *models)
        with open_session(home, folder) as session:
            for case in cases_of(folder):
                if only in case["id"] or only in case["kind"]:
                    yield judged(case, folder, session)


def summary(found: Iterable[Outcome]) -> Iterator[str]:
    """A line for each kind."""
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in found:
        by_kind.setdefault(outcome.kind, []).append(outcome)
    yield f"{'kind':18} {'cases':>6} {'worst':>9} {'bound':>9} {'over':>6} {'skipped':>8} {'refused':>8}  worst case"
    for kind, own in by_kind.items():
        counts = Counter(outcome.status for outcome in own)
        worst = max(own, key=lambda outcome: (bool(outcome.errors), outcome.relative))
        over = counts["over"] + counts["crashed"]
        relative, where = (f"{worst.relative:.1e}", worst.id) if worst.errors else ("-", "-")
        yield (
            f"{kind:18} {len(own):6} {relative:>9} {BOUNDS.get(kind, BOUND):9.0e} {over:6} "
            f"{counts['skipped']:8} {counts['refused on purpose']:8}  {where}"
        )


def main() -> int:
    """Prints the lines of the cases and the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="the models; by default DIR/weights")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose id or kind has this in it")
    parser.add_argument("--aim", type=float, help="lists the cases whose relative error is above this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes all outcomes, by tensor")
    given = parser.parse_args()
    print(f"{'case':46} {'relative':>9} {'largest':>9}  tensor")
    found: list[Outcome] = []
    for outcome in outcomes(given.folder, given.weights or given.folder / "weights", given.only):
        found.append(outcome)
        print(outcome.line(), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(outcome) for outcome in found], indent=1) + "\n")
    if given.aim is not None:
        print(f"\nabove {given.aim:.0e}:")
        print("\n".join(outcome.line() for outcome in found if outcome.relative > given.aim) or "none")
    print("\n" + "\n".join(summary(found)))
    return int(any(outcome.status in ("over", "crashed") for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
