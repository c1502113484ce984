"""What modes mean to a model: which of its layers care, and which of its parts are out of step."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import TrainStep
from trainlint.core.facts import Cause, Certainty, Mode, ModeFact, ModelFacts, PartFact, Share
from trainlint.core.rule import Finding
from trainlint.rules.wording import listed

_STATISTICS = ("BatchNorm", "InstanceNorm", "SyncBatchNorm")


def weighed(finding: Finding, sensitive: Certainty) -> Finding:
    """The finding as information where no layer behaves differently in the two modes."""
    return finding.at(Severity.INFO) if sensitive is Certainty.NO else finding


def as_versions_differ(finding: Finding, event: TrainStep, mode: ModeFact) -> Finding:
    """A mode from before the framework's loop, which Lightning keeps since 2.2.

    Before it put everything in train mode where the loop begins, and under its old name either
    version may be installed: then it is information.
    """
    if mode.origin is None or mode.origin.site not in event.modes_before:
        return finding
    old = event.framework == "pytorch_lightning"
    return finding.at(Severity.INFO if old else Severity.WARNING)


def harm_in_train_mode(model: ModelFacts) -> str:
    """What train mode does to a pass that does not train, for a message."""
    if model.sensitive is Certainty.NO:
        return "none of its layers depends on the mode"
    layers = listed(model.layers) if model.layers else "dropout and batch statistics"
    return f"{layers} act as in training"


def only_statistics(model: ModelFacts) -> bool:
    """Every mode-sensitive layer is known and normalises by batch statistics."""
    kinds = [layer.rpartition(": ")[2] for layer in model.layers]
    return bool(kinds) and all(kind.startswith(_STATISTICS) for kind in kinds)


def stray_parts(model: ModelFacts) -> tuple[PartFact, ...]:
    """Parts in eval mode that nobody put there by themselves and that are not frozen extractors.

    Under adapters the base is frozen by design, so its being frozen explains nothing.
    """
    if any(_set_by_hand(part) for part in model.parts):
        return ()
    return tuple(
        part
        for part in model.parts
        if part.mode.mode is Mode.EVAL
        and part.kept_eval is None
        and (part.trainable is not Share.NONE or model.adapters is not None)
    )


def _set_by_hand(part: PartFact) -> bool:
    return part.mode.mode is Mode.TRAIN and part.mode.cause is Cause.EXPLICIT_CALL


def eval_where_it_matters(model: ModelFacts) -> ModeFact | None:
    """The fact that has put everything that modes matter to in eval, if that is so.

    A fresh linear head on a pretrained backbone is in train mode, and only the backbone's
    dropout cares: such a mix is eval mode in all but name.
    """
    if model.mode.mode is Mode.EVAL:
        return model.mode
    stray = stray_parts(model)
    if model.mode.mode is not Mode.MIXED or not stray:
        return None
    indifferent = all(
        part.mode.mode is Mode.EVAL or part.sensitive is Certainty.NO for part in model.parts
    )
    matter = any(part.sensitive is not Certainty.NO for part in stray)
    return stray[0].mode if indifferent and matter else None
