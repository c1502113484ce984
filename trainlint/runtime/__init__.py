"""The runtime half: live models, verified while they train."""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401 - only to say clearly what is missing
except ImportError as error:  # pragma: no cover - the base install has no torch
    raise ImportError(
        'trainlint.runtime needs torch: install it with `pip install "trainlint[runtime]"`'
    ) from error

from trainlint.runtime.expect import Expect
from trainlint.runtime.look import inspect, verify
from trainlint.runtime.observation import Observation
from trainlint.runtime.observe import observe
from trainlint.runtime.report import Report, TrainingStateError, Violation
from trainlint.runtime.watch import TrainingStateWarning, Watch, watch

__all__ = [
    "Expect",
    "Observation",
    "Report",
    "TrainingStateError",
    "TrainingStateWarning",
    "Violation",
    "Watch",
    "inspect",
    "observe",
    "verify",
    "watch",
]
