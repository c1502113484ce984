"""Nothing that acts is said about the healthy set-ups of RUNTIME 1.2, 3.4 and 5.3."""

from __future__ import annotations

import warnings

import pytest

from tests.runtime.healthy import HEALTHY
from trainlint.runtime import watch


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_run_is_silent(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = HEALTHY[name](watch)
    assert [v for v in run.report.violations if v.acts] == []
    infos = {v.code for v in run.report.violations}
    assert infos <= {"TL302", "TL305", "TL701"}, str(run.report)
    assert run.report.ok
