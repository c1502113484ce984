"""Base weights under adapters: those that train unsaved, and heads that nobody trains."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from trainlint.runtime.adapters import is_peft_model
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped


def _saved(state: Observation) -> set[int]:
    """Positions of base weights that PEFT writes into some adapter's checkpoint."""
    try:
        from peft import get_peft_model_state_dict  # the user has it: there are adapters
    except ImportError:
        return set(range(len(state.parameters)))
    where = {p.data_ptr(): i for i, (_, p) in enumerate(state.parameters) if p.numel()}
    kept: set[int] = set()
    owner = state.peft if state.peft is not None and is_peft_model(state.peft) else state.model
    for adapter in state.configs:
        try:
            weights = get_peft_model_state_dict(
                owner, adapter_name=adapter, save_embedding_layers=False
            )
        except Exception:
            return set(range(len(state.parameters)))
        for tensor in weights.values():
            position = where.get(tensor.data_ptr())
            if position is not None:
                kept.add(position)
    return kept


def base_trains(state: Observation) -> list[Verdict]:
    mine = state.adapter_parameters
    inside = f"{state.peft_name}." if state.peft_name else ""
    loose = [
        i for i in state.trainable() if i not in mine and state.parameters[i][0].startswith(inside)
    ]
    if not loose or not state.configs:
        return []
    copies = tuple(f"{x.name}." for x in state.layers if x.auxiliary)
    loose = [
        i
        for i in loose
        if not state.parameters[i][0].startswith(copies)
        or ".original_module." in state.parameters[i][0]
    ]
    saved = _saved(state) if loose else set()
    lost = [i for i in loose if i not in saved and not _declared_bias(state, i)]
    if not lost:
        return []
    names = tuple(state.parameters[i][0] for i in lost)
    universe = [n for i, (n, _) in enumerate(state.parameters) if i not in mine]
    what = grouped(names, universe)
    text = f"base weights train that the adapter's checkpoint will not save: {what}"
    advice = "freeze them, or name their modules in `modules_to_save`"
    return [Verdict("TL416", text, (), names, help=advice, cause="base")]


def _declared_bias(state: Observation, position: int) -> bool:
    """Named by the config's `bias`: PEFT trains these on purpose."""
    if not state.parameters[position][0].endswith("bias"):
        return False
    return any(getattr(c, "bias", "none") not in ("none", None) for c in state.configs.values())


_HEADS = ("classifier", "score", "qa_outputs", "classification_head", "regression_head")
_HEADED = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def head_not_trained(state: Observation) -> list[Verdict]:
    """A frozen task head that looks freshly initialised and that no checkpoint will hold."""
    if not state.configs or any(not a for a in state.configs):
        return []
    owner = next((m for _, m in state.modules if type(m).__name__.endswith(_HEADED)), None)
    if owner is None:
        return []
    prefix = next(n for n, m in state.modules if m is owner)
    mine = state.adapter_parameters
    names = []
    for key, head in owner._modules.items():
        if key not in _HEADS or head is None:
            continue
        full = f"{prefix}.{key}" if prefix else key
        inside = [
            (i, n, p) for i, (n, p) in enumerate(state.parameters) if n.startswith(f"{full}.")
        ]
        frozen = all(not p.requires_grad and i not in mine for i, _, p in inside)
        if inside and frozen and _fresh(owner, [p for _, _, p in inside]):
            names += [n for _, n, _ in inside]
    if not names:
        return []
    text = (
        f"the task head {grouped(names)} is freshly initialised, frozen, and not in the adapter's "
        "checkpoint: the adapter trains under a random head"
    )
    advice = "give the config a `task_type`, or name the head in `modules_to_save`"
    return [Verdict("TL411", text, (), tuple(names), help=advice, cause="head")]


def _fresh(owner: nn.Module, parameters: Sequence[nn.Parameter]) -> bool:
    """Biases exactly 0, or weights spread as `initializer_range` says."""
    flat = [p for p in parameters if p.dim() == 1]
    if flat:
        return all(not bool(p.detach().any()) for p in flat)
    spread = getattr(getattr(owner, "config", None), "initializer_range", None)
    if not isinstance(spread, float) or not parameters:
        return False
    return all(abs(float(p.detach().float().std()) / spread - 1) < 0.2 for p in parameters)
