"""The loop every artefact is trained by: seeded, resumable, on any number of CPU processes or one GPU.

Whatever is drawn by lot in a step follows from the seed, the step and the worker alone, so that a run that was stopped
and taken up again ends as one that was not.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.pool import RUNS

_REPORT, _SAVE = 50, 600  # steps between lines, seconds between saved states
_EMA_EVERY = 4


class Job(Protocol):
    """What a training run trains."""

    modules: nn.ModuleDict  # saved, and averaged over time; what has `requires_grad` is trained

    def loss(self, progress: float, rng: random.Random) -> tuple[Tensor, Mapping[str, float]]:
        """The loss of one step and figures to report; `progress` goes from 0 to 1 over the run."""
        ...

    def review(self) -> str:
        """Figures that say how good the averaged weights are; called now and then with them in place."""
        ...

    def finish(self, folder: Path) -> None:
        """Writes the artefact; called at the end with the averaged weights in place."""
        ...


def options(name: str, *, steps: int, batch: int, lr: float, **more: object) -> argparse.Namespace:
    """Reads the command line that every training command has.

    Args:
        name: of the artefact; its folder under `--out`.
        more: options of its own, with their defaults.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{name}")
    parser.add_argument("--steps", type=int, default=steps, help="steps of the run (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=batch, help="samples of a step, over all workers")
    parser.add_argument("--lr", type=float, default=lr, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="CPU processes of one thread each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; on cuda one process works")
    parser.add_argument("--out", type=Path, default=RUNS, help="folder of all runs (default: %(default)s)")
    parser.add_argument("--name", default=name, help="name of this run's folder (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="start anew even where a state was saved")
    for key, value in more.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(value), default=value)
    chosen = parser.parse_args()
    if chosen.device != "cpu":
        chosen.workers = 1
    return chosen


def run(chosen: argparse.Namespace, make: Callable[[argparse.Namespace], Job]) -> None:
    """Runs a job to its end, from the state it was stopped in."""
    folder = chosen.out / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    if chosen.fresh:
        (folder / "state.pt").unlink(missing_ok=True)
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    if chosen.workers == 1:
        _work(0, chosen, make, meeting)
    else:
        mp.spawn(_work, (chosen, make, meeting), nprocs=chosen.workers)


def share(chosen: argparse.Namespace) -> int:
    """Samples of a step that fall to one worker."""
    return max(chosen.batch // chosen.workers, 1)


def autocast(chosen: argparse.Namespace) -> torch.autocast:
    """bfloat16 for what gains by it."""
    return torch.autocast(chosen.device, torch.bfloat16)


def _work(rank: int, chosen: argparse.Namespace, make: Callable[[argparse.Namespace], Job], meeting: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # how torch ends workers whose parent died; see mp.spawn
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    if chosen.workers > 1:
        dist.init_process_group(
            "gloo", f"file://{meeting.absolute()}", rank=rank, world_size=chosen.workers,
            timeout=datetime.timedelta(hours=1),
        )  # fmt: skip
    torch.manual_seed(chosen.seed)
    job = make(chosen)
    _Worker(rank, chosen, job).work()
    if chosen.workers > 1:
        dist.destroy_process_group()


class _Worker:
    """One process of a run; the first also saves and reports."""

    def __init__(self, rank: int, chosen: argparse.Namespace, job: Job) -> None:
        self.rank, self.chosen, self.job = rank, chosen, job
        self.folder: Path = chosen.out / chosen.name
        job.modules.to(chosen.device)
        self.params = [p for p in job.modules.parameters() if p.requires_grad]
        self.ema = [p.detach().clone() for p in self.params]
        self.optimizer = torch.optim.AdamW(self.params, lr=chosen.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.step = 0

    def work(self) -> None:
        self._resume()
        started, saved, first = time.monotonic(), time.monotonic(), self.step
        sums: dict[str, float] = {}
        while self.step < self.chosen.steps:
            figures = self._train()
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value
            if self.step % _REPORT == 0:
                pace = (time.monotonic() - started) / (self.step - first)
                left = (self.chosen.steps - self.step) * pace
                self.say(
                    f"step {self.step}/{self.chosen.steps}  {pace:.2f} s a step, {left / 60:.0f} min left  "
                    + "  ".join(f"{name} {value / min(_REPORT, self.step - first):.4f}" for name, value in sums.items())
                )
                sums.clear()
            if time.monotonic() - saved > _SAVE:
                self._save()
                self._with_average(lambda: self.say("review " + self.job.review()))
                saved = time.monotonic()
        if self.rank == 0 and self.step > first:
            self._save()
        self._with_average(lambda: self.say("final " + self.job.review()))
        self._with_average(lambda: self.job.finish(self.folder))

    def say(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)
            with open(self.folder / "log.txt", "a", encoding="utf-8") as file:
                print(f"{time.strftime('%H:%M:%S')} {text}", file=file)

    def _train(self) -> Mapping[str, float]:
        progress = self.step / self.chosen.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.chosen.lr * _factor(self.step, progress)
        place = f"{self.chosen.seed}-{self.step}-{self.rank}"
        rng = random.Random(place)
        torch.manual_seed(rng.getrandbits(62))
        with sdpa_kernel(SDPBackend.MATH) if self.chosen.device == "cpu" else nullcontext():  # a fifth faster there
            loss, figures = self.job.loss(progress, rng)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self.chosen.workers > 1:
            _average([p.grad for p in self.params if p.grad is not None], self.chosen.workers)
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.optimizer.step()
        self.step += 1
        if self.step % _EMA_EVERY == 0:
            decay = min(0.99, (self.step + 1) / (self.step + 40))
            torch._foreach_lerp_(self.ema, [p.data for p in self.params], 1 - decay)
        return figures

    def _with_average(self, act: Callable[[], None]) -> None:
        """Acts on the first worker while the averaged weights are in place."""
        if self.rank:
            return
        self._swap()
        with torch.no_grad():
            act()
        self._swap()

    def _swap(self) -> None:
        for p, average in zip(self.params, self.ema, strict=True):
            held = p.data.clone()
            p.data.copy_(average)
            average.copy_(held)

    def _save(self) -> None:
        if self.rank:
            return
        state = {
            "step": self.step, "steps": self.chosen.steps, "modules": self.job.modules.state_dict(),
            "ema": self.ema, "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        part = self.folder / "state.pt.part"
        torch.save(state, part)
        part.replace(self.folder / "state.pt")

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.chosen.device, weights_only=True)
        self.job.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(self.ema, state["ema"], strict=True):
            average.copy_(saved)
        self.step = state["step"]
        self.say(f"goes on from step {self.step}; --fresh starts anew")


def _factor(step: int, progress: float) -> float:
    """The learning rate over the run, of its highest: a warm-up, level for half of it, then down to a fiftieth."""
    return min(1.0, (step + 1) / 100) * (0.02 + 0.98 * min(1.0, 2 * (1 - progress)))


def _average(grads: Iterable[Tensor], workers: int) -> None:
    grads = list(grads)
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    flat /= workers
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))
