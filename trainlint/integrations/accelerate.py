"""A watch on what an Accelerator prepared."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator

from trainlint.runtime import Watch
from trainlint.runtime import watch as plain_watch


def watch(
    accelerator: Accelerator, model: Any = None, optimizer: Any = None, **options: Any
) -> Watch:
    """Like `trainlint.runtime.watch`; model and optimizer default to what was prepared."""
    models, optimizers = accelerator._models, accelerator._optimizers
    if model is None:
        if len(models) != 1:
            raise ValueError(
                f"the accelerator prepared {len(models)} models: say which with `model=`"
            )
        model = models[0]
    if optimizer is None:
        optimizer = list(optimizers) or None
    return plain_watch(model, optimizer, **options)
