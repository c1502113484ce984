"""When a forward without a backward is an evaluation that somebody relies on."""

from __future__ import annotations

from trainlint.core.events import Evaluation, Evidence
from trainlint.core.facts import Certainty


def is_relied_on(event: Evaluation) -> bool:
    """Trained weights run, their result is used, and more than a gradient switch says why.

    A smoke test on a fresh model has no weights worth judging; a forward whose result is dropped
    refreshes statistics; a GAN's pictures of its progress are drawn in train mode by custom.
    """
    if event.model.managed or event.needs_train or event.result_used is Certainty.NO:
        return False
    weights = event.trained_elsewhere or event.model.loaded
    meant = event.evidence - {Evidence.GRAD_OFF}
    if not weights and Evidence.EVAL_ASKED not in meant:
        return False
    return bool(meant)
