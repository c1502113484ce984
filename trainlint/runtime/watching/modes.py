"""Training flags of a forward that trains, or that evaluates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainlint.runtime.judge import adapters, modes
from trainlint.runtime.judge.modes import Modes
from trainlint.runtime.judge.on_purpose import reestimates
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.source import caller
from trainlint.runtime.watching.forward import Forward
from trainlint.runtime.watching.plan import Plan
from trainlint.runtime.watching.run import Run

_EXEMPT = frozenset(
    ["generate", "update_bn", "checkpoint", "_checkpoint_without_reentrant_generator"]
)
"""Functions in which gradients are off in train mode for a reason: RL rollouts, `update_bn` of
SWA, a reentrant checkpoint around the whole model."""


class ModeJudge:
    """Verdicts on flags; flags already found good are not looked at again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._good: set[tuple[bool, bytes, object]] = set()
        self._judged_status: object = None
        self._root_flag: bool | None = None
        self._root_assigned = False
        self._off: Sequence[str] = ()
        """What was found in eval mode amid training."""

    def reset(self) -> None:
        """The model's structure changed: nothing is known to be good."""
        self._good = set()

    def switched(self) -> None:
        """Some `train()` or `eval()` ran: the root's flag may differ for a known reason."""
        self._root_flag = None

    def notice_assignment(self, plan: Plan) -> None:
        """`model.training = ...` leaves no trace but a flag that changed with no call."""
        flag = plan.flag_dicts[0]["training"] is True
        if self._root_flag is not None and flag != self._root_flag:
            self._root_assigned = True
        self._root_flag = flag

    def flags(self, forward: Forward, *, training: bool) -> list[Verdict]:
        """A forward's flags against what it turned out to be for."""
        run = self._run
        key = (training, forward.flags, run.switches.order if training else ())
        if key in self._good or forward.disabled:
            return []
        state = run.view.observe()
        plan = run.view.plan
        if state is None or plan is None:
            return []
        flags = _at_forward(state, plan, forward)
        asked = run.settings
        intended = run.view.modes(state, asked.keep_eval, asked.keep_train, run.switches.last)
        if training:
            found = self._in_training(state, flags, intended)
        else:
            found = modes.in_evaluation(state, flags, intended, trained=run.meant_to_train)
        if not found:
            self._good.add(key)
        return found

    def _in_training(
        self, state: Observation, flags: Sequence[int], intended: Modes
    ) -> list[Verdict]:
        found = modes.in_training(state, flags, intended)
        if not found or found[0].code not in ("TL101", "TL107"):
            return found
        known = found[0].modules == self._off  # off before the root's flag was assigned
        if not self._root_assigned:
            self._off = found[0].modules
        elif flags[0] and not known:
            text = "`training` was assigned on the outermost module and did not reach the rest"
            return [replace(found[0], code="TL104", message=f"{text}: {found[0].message}")]
        return found

    def evaluation(self, forward: Forward) -> list[Verdict]:
        """Gradients are off: nothing trains on this forward. Is all that acts in eval mode."""
        run = self._run
        plan = run.view.plan
        found: list[Verdict] = []
        if plan is not None and run.look_again and plan.has_adapters:
            found += self.status()
        if plan is None or not any(forward.flags) or (run.only_training and not run.trained):
            return found
        who = caller(5)
        if _EXEMPT & {t.rpartition(".")[2] for t in (*who.through, who.function)}:
            return found
        if forward.root_train and self._reestimates():
            return found
        return found + self.flags(forward, training=False)

    def _reestimates(self) -> bool:
        """Whether this forward is there for the running statistics."""
        state = self._run.view.observe()
        if state is None:
            return False
        acting = [state.modules[i][1] for i in state.sensitive]
        return reestimates(acting, self._run.backwards)

    def status(self) -> list[Verdict]:
        """Irregular adapters, or adapters without effect, before anything is trained."""
        view = self._run.view
        key = view.status()
        if key == self._judged_status:
            return []
        state = view.observe()
        if state is None:
            return []
        self._judged_status = key
        return [v for v in adapters.judge(state, training=False) if v.code in ("TL413", "TL417")]


def _at_forward(state: Observation, plan: Plan, forward: Forward) -> bytearray:
    """All flags, with those that act as they were when the forward began."""
    flags = bytearray(state.flags())
    for position, flag in zip(plan.acting, forward.flags):
        if position < len(flags):
            flags[position] = flag
    return flags
