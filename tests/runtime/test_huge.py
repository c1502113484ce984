"""A model too large to be read whole at every step is read in turns, and nothing escapes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from trainlint.runtime import Watch, observe, watch
from trainlint.runtime.watching import model_view
from trainlint.runtime.watching.plan import GLANCE_EVERY, Rotation, part_of, turns_for

LAYERS = 1200


class Huge(nn.Module):
    """Many tiny layers whose weights all take part in one sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(LAYERS))
        self.drops = nn.ModuleList(nn.Dropout(0.1) for _ in range(LAYERS))
        self.skipped: set[int] = set()
        self.factor = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        used = [p for i, m in enumerate(self.layers) if i not in self.skipped
                for p in m.parameters()]  # fmt: skip
        return torch.stack([p.sum() for p in used]).sum() * self.factor + x.sum()


def run_with(
    fault: Callable[[Huge], None], code: str = "", steps: int = 200
) -> tuple[list[Any], int]:
    """The findings of that code, and how many steps after the fault the first came."""
    model = Huge()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    seen: list[int] = []
    start = 7
    with watch(model, optimizer, on_violation=lambda found: None) as run:
        for step in range(steps):
            if step == start:
                fault(model)
            optimizer.zero_grad()
            model(torch.zeros(1)).backward()
            optimizer.step()
            if any(v.code == code for v in run.report.violations):
                seen.append(step - start)
                break
    found = [v for v in run.report.violations if code in ("", v.code)]
    return found, seen[0] if seen else -1


def _plan() -> Any:
    model = Huge()
    with watch(model) as opened:
        return _parts(opened).run.view.plan


def _parts(opened: Watch) -> Any:
    return opened._parts


def test_it_is_read_in_turns_and_each_part_has_one() -> None:
    plan = _plan()
    assert plan.turns > 1
    assert len(plan.shapes) > 1
    for turns in (1, 3, 7):
        rotation = Rotation(20, turns)
        read = [i for _ in range(turns) for i in range(20)[rotation.part()]]
        assert read == list(range(20))
    assert turns_for(700, 800) == 1
    assert part_of(10, 3, 2) == slice(6, 10)


def test_unchanged_steps_are_silent_and_never_observed_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(model_view, "observe", lambda model: looks.append(1) or observe(model))
    counts: list[int] = []
    found, _ = run_with(lambda model: counts.append(len(looks)), steps=40)
    assert found == []
    assert len(looks) == counts[0]


def _assign_a_flag(model: Huge) -> None:
    model.drops[700].training = False


def _freeze_one(model: Huge) -> None:
    model.layers[700].weight.requires_grad = False


def _skip_one(model: Huge) -> None:
    model.skipped.add(700)


def _add_one(model: Huge) -> None:
    model.layers.append(nn.Linear(1, 1))


def _put_one_in_its_place(model: Huge) -> None:
    model.layers[700] = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("fault", "code", "names"),
    [
        (_assign_a_flag, "TL107", "drops.700"),
        (_freeze_one, "TL302", "layers.700.weight"),
        (_skip_one, "TL701", "layers.700.weight"),
        (_add_one, "TL303", f"layers.{LAYERS}.weight"),
        (_put_one_in_its_place, "TL303", "layers.700.weight"),
    ],
)
def test_one_change_among_thousands_shows_after_all_turns(
    fault: Callable[[Huge], None], code: str, names: str
) -> None:
    plan = _plan()
    found, after = run_with(fault, code)
    assert names in (*found[0].modules, *found[0].parameters)
    turns = len(plan.shapes) if fault in (_add_one, _put_one_in_its_place) else plan.turns
    assert 0 <= after <= GLANCE_EVERY * turns + 2


def _freeze_all(model: Huge) -> None:
    model.layers.requires_grad_(False)
    model.layers[0].requires_grad_(True)


def _lose_the_numbers(model: Huge) -> None:
    model.factor = float("nan")


@pytest.mark.parametrize(("fault", "code"), [(_freeze_all, "TL302"), (_lose_the_numbers, "TL702")])
def test_a_change_in_many_places_shows_within_a_few_steps(
    fault: Callable[[Huge], None], code: str
) -> None:
    _, after = run_with(fault, code)
    assert 0 <= after <= GLANCE_EVERY
