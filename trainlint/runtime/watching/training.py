"""At a backward: can the model train, as it was declared, and alike on all ranks."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn

from trainlint.runtime.expect import unmet
from trainlint.runtime.judge import adapters, attributes, overrides
from trainlint.runtime.judge.causes import is_root
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.watching.model_view import CLOSE_STEPS
from trainlint.runtime.watching.modes import ModeJudge
from trainlint.runtime.watching.optimizers import Optimizers
from trainlint.runtime.watching.run import Run
from trainlint.runtime.wrappers import unwrap

_RANKS_EVERY = 100
"""The ranks are compared in the first steps, then every so many."""


class TrainingJudge:
    """Structure, what requires gradients, adapters: looked at when something differs."""

    def __init__(self, run: Run, modes: ModeJudge, optimizers: Optimizers) -> None:
        self._run, self._modes, self._optimizers = run, modes, optimizers
        self._judged: object = None
        self._ranks: Any = _ranks()

    def prepare(self) -> None:
        """Read the model anew: its structure changed, or the watch begins."""
        run = self._run
        run.view.prepare()
        run.look_again = True
        self._judged = None
        self._modes.reset()
        self._optimizers.refresh_all()

    def due(self) -> bool:
        """Whether this backward's state is to be judged."""
        return self._run.look_again or self._run.steps < CLOSE_STEPS

    def judge(self) -> list[Verdict]:
        """The model trains: what is wrong with it for that."""
        run, view = self._run, self._run.view
        run.look_again = False
        if view.reshaped(run.steps):
            self.prepare()
        elif not view.looks(run.steps) and not run.changed and not view.differs(run.steps):
            return []
        run.changed = False
        before = view.requires
        view.read()
        key = (view.requires, view.status())
        if key == self._judged:
            return []
        self._judged = key
        if before and view.requires != before:
            self._optimizers.refresh_all()
        state = view.observe()
        return [] if state is None else self._verdicts(state)

    def _verdicts(self, state: Observation) -> list[Verdict]:
        found = unmet(self._run.settings.expect, state, training=True)
        found += adapters.judge(state, training=True)
        alone = not self._run.only_training  # else it is a part: a critic in the maker's turn
        if alone and not state.trainable() and not any(is_root(v) for v in found):
            names = tuple(n for n, _ in state.parameters)
            text = (
                f"all {len(names)} parameters are frozen; the loss requires grad only because the "
                "inputs do: no weight will move"
            )
            found.append(Verdict("TL301", text, (), names, cause="coverage"))
        if not self._run.steps:
            found += attributes.misset(state)
            found += attributes.unregistered(state)
            found += overrides.broken(state)
        return found

    def forget(self) -> None:
        """What was judged last was withheld: judge it again at the next backward."""
        self._judged = None
        self._run.look_again = self._run.changed = True

    def compare_ranks(self) -> list[Verdict]:
        """Before the first backward of a step: DDP would hang in it if the ranks disagree."""
        run = self._run
        if self._ranks is None or run.since_step:
            return []
        if run.steps >= CLOSE_STEPS and run.steps % _RANKS_EVERY:
            return []
        state = run.view.observe()
        if state is None:
            return []
        replicated = run.view.parallel or _inside_ddp(run.view.inner())
        verdicts: list[Verdict] = self._ranks.compare(run.steps, state, replicated=replicated)
        return verdicts

    def close(self) -> None:
        """Tell the other ranks that this one compares no more."""
        if self._ranks is not None:
            self._ranks.leave(self._run.steps)
            self._ranks = None


def _ranks() -> Any:
    """The exchange with the other ranks; None in a single process."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    if torch.distributed.get_world_size() < 2:
        return None
    from trainlint.runtime.distributed import Ranks

    return Ranks()


def _inside_ddp(inner: nn.Module | None) -> bool:
    """Whether a DistributedDataParallel somewhere wraps this module."""
    kind = torch.nn.parallel.DistributedDataParallel
    return any(unwrap(o) is inner for o in gc.get_objects() if issubclass(type(o), kind))
