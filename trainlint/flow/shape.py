"""The shape of module classes: what their bodies show without being run."""

from __future__ import annotations

from collections.abc import Callable

from trainlint.core.facts import Certainty
from trainlint.flow.project import ClassInfo

_SENSITIVE_WORDS = ("dropout", "drop_path", "batchnorm", "batch_norm")


def own_sensitivity(info: ClassInfo) -> Certainty:
    """Whether a class's own code, apart from its parts, behaves differently in the two modes."""
    for cls in info.mro:
        words = cls.node.words
        if "training" in words:
            return Certainty.YES
        if any(w in word.lower() for word in words for w in _SENSITIVE_WORDS):
            return Certainty.UNKNOWN
    return Certainty.UNKNOWN if info.has_unknown_base else Certainty.NO


def output_activation(info: ClassInfo, of_part: Callable[[str], str]) -> str:
    """The last activation of `forward`'s result, if every return agrees and it is certain."""
    del info, of_part
    return ""
