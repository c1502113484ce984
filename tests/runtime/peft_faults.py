"""The faults that are injected into every PEFT type, each with the code it should have."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch

from tests.runtime.tiny import adamw, llama
from tests.runtime.zoo import ZOO, loss, train
from trainlint.runtime import Report, Violation, observe, watch

NOT_APPLICABLE = "-"
PROMPTS = frozenset(
    {"CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"}
)
_Run = Callable[[str], Report | None]
FAULTS: dict[str, tuple[str, _Run]] = {}


def _fault(name: str, code: str) -> Callable[[_Run], _Run]:
    def register(run: _Run) -> _Run:
        FAULTS[name] = (code, run)
        return run

    return register


def _watched(model: Any, optimizer: Any, body: Callable[[], None], **options: Any) -> Report:
    with watch(model, optimizer, on_violation=lambda violation: None, **options) as run:
        try:
            body()
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
        except KeyError as error:
            if "nonexistent" not in str(error):
                raise
    return run.report


def _tuners(model: Any) -> list[Any]:
    return [x for x in observe(model).layers if not x.auxiliary]


@_fault("left in eval", "TL101")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model)
    model.eval()
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("base left in eval", "TL107")
def _(kind: str) -> Report:
    model = ZOO[kind](llama(head_dim=8).eval())
    optimizer = adamw(model)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("frozen by hand", "TL404")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model)
    model.get_base_model().enable_input_require_grads()
    model.requires_grad_(False)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("loaded frozen", "TL401")
def _(kind: str) -> Report | None:
    from peft import PeftModel

    model = ZOO[kind]()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = PeftModel.from_pretrained(llama(head_dim=8), folder)
    if any(p.requires_grad for p in again.parameters()) or kind == "ADALORA":
        return None  # peft leaves prompts trainable; AdaLoRA cannot be trained after it
    again.train()
    again.get_base_model().enable_input_require_grads()
    optimizer = torch.optim.AdamW(again.parameters(), lr=1e-2)
    return _watched(again, optimizer, lambda: train(again, optimizer, kind))


@_fault("part frozen", "TL414")
def _(kind: str) -> Report | None:
    model = ZOO[kind]()
    state = observe(model)
    kinds = [s.kind for s in state.slots if not s.frozen_on_purpose]
    more = [k for k in dict.fromkeys(kinds) if kinds.count(k) > 1]
    layers = {s.layer for s in state.slots}
    if kind in PROMPTS or kind == "ADAPTION_PROMPT" or not more or len(layers) < 2:
        return None
    slot = next(s for s in state.slots if s.kind == more[0] and not s.frozen_on_purpose)
    alone = [s for s in state.slots if s.layer == slot.layer and not s.frozen_on_purpose]
    shared = [s for s in state.slots if s.parameters == slot.parameters]
    if len(alone) < 2 or len(shared) > 1:
        return None
    for position in slot.parameters:
        state.parameters[position][1].requires_grad = False
    optimizer = adamw(model)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("one layer disabled", "TL413")
def _(kind: str) -> Report | None:
    model = ZOO[kind]()
    tuners = [x for x in _tuners(model) if type(x.module).__name__ != "ShadowLayer"]
    if len(tuners) < 2:
        return None
    tuners[0].module._disable_adapters = True
    optimizer = adamw(model)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("merged", "TL406")
def _(kind: str) -> Report | None:
    model = ZOO[kind]()
    if kind in PROMPTS or not hasattr(model, "merge_adapter"):
        return None
    try:
        model.merge_adapter()
    except (NotImplementedError, AttributeError, ValueError, TypeError):
        return None
    if not any(x.merged for x in _tuners(model)):
        return None
    model.get_base_model().enable_input_require_grads()
    optimizer = adamw(model)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("active adapter absent", "TL417")
def _(kind: str) -> Report | None:
    model = ZOO[kind]()
    tuners = _tuners(model)
    if not tuners:
        return None
    for tuner in tuners:
        tuner.module._active_adapter = ["nonexistent"]
    optimizer = adamw(model)
    model.get_base_model().enable_input_require_grads()
    return _watched(model, optimizer, lambda: train(model, optimizer, kind), select="TL417")


@_fault("optimizer before get_peft_model", "TL303")
def _(kind: str) -> Report:
    base = llama(head_dim=8)
    optimizer = torch.optim.AdamW(base.parameters(), lr=1e-2)
    model = ZOO[kind](base)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("base weight unfrozen", "TL416")
def _(kind: str) -> Report | None:
    if kind == "SHADOW":
        return None  # its backbone is one with the adapter
    model = ZOO[kind]()
    state = observe(model)
    mine = state.adapter_parameters
    weight = next(
        p for i, (n, p) in enumerate(state.parameters) if i not in mine and "up_proj" in n
    )
    weight.requires_grad = True
    optimizer = adamw(model)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind))


@_fault("no zero_grad", "TL205")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model, lr=1e-4)

    def body() -> None:
        for step in range(3):
            loss(model, kind, step).backward()
            optimizer.step()

    return _watched(model, optimizer, body)


@_fault("zero_grad wipes", "TL206")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model)

    def body() -> None:
        for step in range(3):
            loss(model, kind, step).backward()
            optimizer.zero_grad()
            optimizer.step()

    return _watched(model, optimizer, body)


@_fault("evaluated in train mode", "TL102")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model)

    def body() -> None:
        train(model, optimizer, kind, 2)
        with torch.no_grad():
            loss(model, kind)
        train(model, optimizer, kind, 1)

    return _watched(model, optimizer, body)


@_fault("evaluated with gradients on", "TL201")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model)

    def body() -> None:
        train(model, optimizer, kind, 2)
        model.eval()
        loss(model, kind)
        model.train()
        train(model, optimizer, kind, 1)

    return _watched(model, optimizer, body)


@_fault("NaN gradient", "TL702")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model)

    def body() -> None:
        train(model, optimizer, kind, 2)
        optimizer.zero_grad()
        (loss(model, kind) * float("nan")).backward()
        optimizer.step()

    return _watched(model, optimizer, body)


@_fault("learning rate 0", "TL703")
def _(kind: str) -> Report:
    model = ZOO[kind]()
    optimizer = adamw(model, lr=0.0)
    return _watched(model, optimizer, lambda: train(model, optimizer, kind, 5))


def healthy(kind: str, steps: int) -> Report:
    """Train, evaluate in between, save, load, merge at the end."""
    from peft import PeftModel

    model = ZOO[kind]()
    optimizer = adamw(model, lr=1e-3)

    def body() -> None:
        train(model, optimizer, kind, steps // 2)
        model.eval()
        with torch.no_grad():
            loss(model, kind)
        model.train()
        train(model, optimizer, kind, steps - steps // 2)
        model.eval()
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            again = PeftModel.from_pretrained(llama(head_dim=8), folder)
            with torch.no_grad():
                if kind != "ADALORA":  # peft 0.21 cannot run it frozen: no `trainable_adapter_name`
                    loss(again, kind)
        if kind not in PROMPTS:
            try:
                model.merge_adapter()
                with torch.no_grad():
                    loss(model, kind)
            except (NotImplementedError, AttributeError, ValueError, TypeError):
                return

    return _watched(model, optimizer, body)


def outcome(kind: str, name: str) -> list[Violation] | None:
    """What acts of all that a fault leads to; None if it does not apply."""
    report = FAULTS[name][1](kind)
    return None if report is None else [v for v in report.violations if v.acts]


def verdict(kind: str, name: str) -> str:
    """The codes that a fault leads to, or that it does not apply."""
    found = outcome(kind, name)
    return NOT_APPLICABLE if found is None else " ".join(v.code for v in found)


_FIRST_STEP = {
    "no zero_grad": 2,
    "evaluated in train mode": 3,
    "evaluated with gradients on": 3,
    "NaN gradient": 3,
    "learning rate 0": 3,
}
"""The step that shows a fault first, where it is not step 1: after two steps of training, or (a
learning rate of 0) when a healthy adapter's zero gradients are over."""


def first_step(kind: str, name: str) -> int:
    """The first step that shows a fault and that its guard allows."""
    if (kind, name) == ("TRAINABLE_TOKENS", "learning rate 0"):
        return 4  # the batch of step 3, the first judged, has none of its tokens: gradients of 0
    return _FIRST_STEP.get(name, 1)


NAMELESS = frozenset({"TL201", "TL205", "TL206"})
"""Codes about the loop, which concern the whole model."""
