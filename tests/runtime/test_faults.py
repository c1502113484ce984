"""Every fault of RUNTIME 1.3 is named by its cause, once, at a line of the script's own."""

from __future__ import annotations

import functools
import warnings

import pytest

from tests.runtime.faults import FAULTS
from trainlint.runtime import TrainingStateError, watch


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_by_its_cause_and_only_that(name: str) -> None:
    fault = FAULTS[name]
    record = functools.partial(watch, on_violation=lambda violation: None, select=fault.select)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fault.run(record)
    found = run.report.violations
    acting = [v for v in found if v.acts]
    wanted = acting if fault.severity != "info" else found
    assert [v.code for v in wanted] == [fault.code], str(run.report)
    violation = wanted[0]
    if fault.severity:
        assert violation.severity == fault.severity
    assert violation.where is None or "/tests/runtime/" in violation.where
    assert violation.step is not None


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if f.severity != "info"])
def test_fault_raises_at_the_call_that_goes_wrong(name: str) -> None:
    fault = FAULTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TrainingStateError) as caught:
            fault.run(functools.partial(watch, select=fault.select))
    assert fault.code in {v.code for v in caught.value.violations}
    assert fault.code in str(caught.value)
