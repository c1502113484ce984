"""Weights that a config ties and that an adapter, or a trained copy, has untied."""

from __future__ import annotations

import torch
from torch import nn

from trainlint.runtime.adapters import is_peft_model
from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.observation import Observation
from trainlint.runtime.report import grouped


def tied_split(state: Observation) -> list[Verdict]:
    """Weights that the base's config ties, and that an adapter or a trained copy has untied."""
    for prefix, module in state.modules:
        config = getattr(module, "config", None) if "config" in module.__dict__ else None
        if config is None or is_peft_model(module):
            continue
        text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
        if not getattr(text_config, "tie_word_embeddings", False):
            continue
        names = _split_here(module)
        if names:
            full = tuple(f"{prefix}.{n}" if prefix else n for n in names)
            text = (
                f"{grouped(full)} was tied with the other embedding and no longer is: an adapter "
                "or a trained copy covers one of the two only"
            )
            advice = "cover both (`ensure_weight_tying=True`), or neither"
            return [Verdict("TL418", text, full, help=advice, cause="tied")]
        return []
    return []


def _split_here(module: nn.Module) -> list[str]:
    get_in = getattr(module, "get_input_embeddings", None)
    get_out = getattr(module, "get_output_embeddings", None)
    if not callable(get_in) or not callable(get_out):
        return []
    try:
        first, second = get_in(), get_out()
    except Exception:
        return []
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        return []
    kinds = [_weight_of(m) for m in (first, second)]
    if kinds[0][1] is None or kinds[1][1] is None:
        return []
    same = kinds[0][1].data_ptr() == kinds[1][1].data_ptr()
    covered = [k[0] for k in kinds]
    by_id = {id(m): n for n, m in module.named_modules()}
    names = [
        by_id.get(id(m), "")
        for m, k in zip((first, second), kinds, strict=False)
        if k[0] is not None
    ]
    if "tokens" in covered or names == []:
        return []  # trainable tokens tie themselves (`tied_adapter`)
    if same and covered[0] == covered[1] == "copy":
        return []
    if covered[0] is not None and covered[1] is not None and same and _tied_adapters(first, second):
        return []
    return [n for n in names if n]


def _tied_adapters(first: nn.Module, second: nn.Module) -> bool:
    mine = {p.data_ptr() for p in first.parameters()}
    return all(p.data_ptr() in mine for p in second.parameters())


def _weight_of(module: nn.Module) -> tuple[str | None, torch.Tensor | None]:
    """What covers an embedding (`copy`, `tokens`, `adapter` or nothing), and the weight it uses."""
    kind = type(module).__name__
    if kind == "ModulesToSaveWrapper":
        active = module.__dict__.get("_active_adapter")
        name = active if isinstance(active, str) else next(iter(active or []), None)
        copies = module._modules.get("modules_to_save")
        if name is None or copies is None or name not in copies._modules:
            return None, getattr(module._modules.get("original_module"), "weight", None)
        return "copy", getattr(copies._modules[name], "weight", None)
    if kind in ("TrainableTokensWrapper", "TrainableTokensLayer"):
        return "tokens", torch.empty(0)
    if hasattr(module, "base_layer"):
        base = module
        while hasattr(base, "base_layer"):
            base = base.base_layer
        return "adapter", getattr(base, "weight", None)
    return None, getattr(module, "weight", None)
