"""TL418, which only a live run can show."""

from __future__ import annotations

from trainlint.core.diagnostic import Severity
from trainlint.core.events import Event
from trainlint.core.rule import Rule


class PeftTiedWeightsSplit(
    Rule[Event], code="TL418", name="peft-tied-weights-split", severity=Severity.WARNING
):
    """An adapter or a trained copy unties weights that were tied.

    ## Why is this bad?
    The base shares one matrix between its input embedding and its output layer. A copy or an
    adapter on one of them makes two of it: the two drift apart, and merging or saving may keep
    one only.

    ## Example
    ```python
    from peft import LoraConfig

    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    ```

    ## Use instead
    ```python
    from peft import LoraConfig

    config = LoraConfig(
        target_modules=["q_proj"], modules_to_save=["lm_head"], ensure_weight_tying=True
    )
    ```

    ## What it leaves alone
    Models whose config ties nothing, `trainable_token_indices` (which ties itself), adapters on
    neither or, tied, on both.

    ## How it is found
    By `trainlint.runtime` (`inspect`, `verify`, `watch`) on the running model; the text of a
    program does not show it.
    """

    message = "an adapter or a trained copy unties weights that were tied"
    static = False
    live = True
