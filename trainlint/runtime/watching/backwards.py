"""A backward: of which forward, through what graph, and may the model train so."""

from __future__ import annotations

from typing import Any

import torch

from trainlint.runtime.judge import adapters
from trainlint.runtime.judge.causes import is_root
from trainlint.runtime.judge.checkpoint import checkpoint_cut
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import HIDDEN
from trainlint.runtime.source import where
from trainlint.runtime.watching.forward import Forward
from trainlint.runtime.watching.forwards import Forwards
from trainlint.runtime.watching.ledger import GradientLedger
from trainlint.runtime.watching.modes import ModeJudge
from trainlint.runtime.watching.run import Run
from trainlint.runtime.watching.training import TrainingJudge

__tracebackhide__ = HIDDEN


class Backwards:
    """Judged before torch runs it, so that "raise" stops at the line that goes wrong."""

    def __init__(
        self,
        run: Run,
        forwards: Forwards,
        modes: ModeJudge,
        training: TrainingJudge,
        ledger: GradientLedger,
    ) -> None:
        self._run, self._forwards, self._modes = run, forwards, modes
        self._training, self._ledger = training, ledger

    def before(self, given: Any) -> None:
        """A backward from these tensors is about to run in one of our threads."""
        losses = [given] if isinstance(given, torch.Tensor) else list(given)
        losses = [t for t in losses if isinstance(t, torch.Tensor)]
        if not losses:
            return
        findings = self._run.findings
        self._ledger.before_backward(losses)
        deferred = findings.take_deferred()
        if all(t.grad_fn is None for t in losses):
            found = self._graphless(losses)
            self._say(found + self._training.compare_ranks() if found else found)
            return
        if not any(t.requires_grad for t in losses):
            return
        ours = self._forwards.leading_to(losses)
        if not ours:
            self._say(self._run.findings.lend(deferred))
            return
        findings.lent.clear()
        # forwards without gradients since the trained one served it, as a target made late
        self._say([v for v in deferred if v.cause != "eval"])
        found = self._judge(ours)
        self._run.for_inputs = any(f.wanted for f in ours)
        if found:
            for forward in ours:  # whatever becomes of this backward, it was meant for them
                forward.consumed = True
        if found and (self._run.for_inputs or self._observed()):
            self._withhold(found)
            found = []
        self._say(found + self._training.compare_ranks())

    def _withhold(self, found: list[Verdict]) -> None:
        """Adversarial examples, saliency maps and style transfer run a backward and train nothing.

        Only a step on these gradients makes it training: clearing them first takes it back.
        """
        line = where(5)
        self._run.withheld += [v.at(v.line or line) for v in found]
        self._training.forget()

    def _observed(self) -> bool:
        """Whether the user hooked the backward of some module, as Grad-CAM does."""
        root = self._run.view.root()
        return root is not None and any(
            m._backward_hooks or m._backward_pre_hooks for m in root.modules()
        )

    def _say(self, found: list[Verdict]) -> None:
        """Report at the line of the backward, which is looked up only if there is something."""
        if found:
            self._run.findings.emit(found, where(5))

    def _judge(self, ours: list[Forward]) -> list[Verdict]:
        found: list[Verdict] = []
        for forward in ours:
            if self._run.settings.phase != "eval":
                found += self._modes.flags(forward, training=True)
            if forward.bypassed:
                text = "the trained forward went through `.module`: gradients are not averaged"
                advice = "call the DistributedDataParallel wrapper itself"
                found.append(
                    Verdict("TL601", text, help=advice, cause="bypass", line=forward.where)
                )
        if self._training.due():
            found += self._training.judge()
        return found

    def after(self) -> None:
        """A backward in one of our threads is over."""
        run = self._run
        used = self._forwards.consumed()
        if used:
            self._count()
            run.forwards = 0
        elif run.forwards:
            run.since_step += 1
        filled = self._ledger.after_backward()
        if filled and not used and not run.forwards and not self._forwards.waiting:
            self._judge_blind()

    def _count(self) -> None:
        run = self._run
        run.trained = True
        run.backwards += 1
        run.since_step += 1

    def _judge_blind(self) -> None:
        """Gradients arrived and no forward was seen (`module.compile()`): judge what is now."""
        run = self._run
        self._count()
        flags = run.view.flags(run.steps)
        forward = Forward(True, flags, None, run.steps, bool(flags[0]))
        found: list[Verdict] = []
        if run.settings.phase != "eval":
            found += self._modes.flags(forward, training=True)
        if self._training.due():
            found += self._training.judge()
        self._say(found)

    # --- a loss without a graph ---------------------------------------------------------------

    def _graphless(self, losses: list[torch.Tensor]) -> list[Verdict]:
        """A loss without a graph: torch raises, or trains nothing."""
        run, last = self._run, self._forwards.last
        if last is None or (not run.forwards and last.grad) or run.settings.phase == "eval":
            return []
        frozen = self._nothing_trains()
        if frozen:
            return frozen
        if any(t.requires_grad for t in losses):
            text = (
                "backward on a loss that was cut from its graph and made to require grad again: "
                "no parameter gets a gradient"
            )
            advice = "call backward on the loss itself, not on a copy of its value"
            return [Verdict("TL212", text, help=advice, cause="cut")]
        if not last.grad:
            return [self._gradients_off(last)]
        if run.cut is not None:
            return [checkpoint_cut(run.cut, self._trainable())]
        if not last.has_graph and not self._forwards.waiting:
            return []
        text = "backward on a loss that was cut from its graph (`.item()`, `.detach()`, numpy ...)"
        return [Verdict("TL212", text, cause="cut")]

    def _nothing_trains(self) -> list[Verdict]:
        """The loss has no graph because nothing that it depends on requires gradients."""
        state = self._run.view.observe()
        if state is None:
            return []
        found = [v for v in adapters.judge(state, training=True) if is_root(v)]
        if found or state.trainable():
            return found
        names = tuple(n for n, _ in state.parameters)
        text = f"all {len(names)} parameters of the model are frozen: nothing will train"
        return [Verdict("TL301", text, (), names, cause="coverage")]

    def _trainable(self) -> tuple[str, ...]:
        state = self._run.view.observe()
        return () if state is None else tuple(state.parameters[i][0] for i in state.trainable())

    def _gradients_off(self, last: Forward) -> Verdict:
        if self._run.trained and not torch.is_grad_enabled():
            text = (
                "gradients were turned off after the last training step and never on again: the "
                f"loss was computed without them (the forward at {last.where})"
            )
            advice = "use `with torch.no_grad():`, which ends with its block"
            return Verdict("TL204", text, help=advice, cause="off")
        text = f"the loss was computed with gradients off (the forward at {last.where})"
        advice = "run the trained forward outside `torch.no_grad()`"
        if not torch.is_grad_enabled():
            advice += " and turn gradients on again after the evaluation"
        return Verdict("TL203", text, help=advice, cause="off")
