"""Reentrant checkpointing that no gradient gets into."""

from __future__ import annotations

from trainlint.runtime.judge.verdict import Verdict
from trainlint.runtime.report import grouped


def checkpoint_cut(line: str, names: tuple[str, ...]) -> Verdict:
    """No gradient gets into what was checkpointed, or nothing requires one at all."""
    text = (
        "reentrant gradient checkpointing over a frozen base, and no input requires grad: "
        f"nothing inside gets a gradient ({grouped(names)})"
    )
    related = (f"{line}: the checkpointed forward",)
    advice = "call `model.enable_input_require_grads()` or use `use_reentrant=False`"
    return Verdict("TL412", text, (), names, related=related, help=advice, cause="cut")
