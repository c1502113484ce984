"""A callback for the Trainer of transformers (and of TRL)."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from trainlint.runtime import Report, Watch, watch


class TrainlintCallback(TrainerCallback):  # type: ignore[misc]
    """Watches the training of a `Trainer`; takes the options of `trainlint.runtime.watch`.

    ```python
    trainer = Trainer(..., callbacks=[TrainlintCallback(on_violation="warn")])
    ```
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._watch: Watch | None = None
        self.report = Report()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The model and the optimizer have their final form."""
        self._close()
        opened = watch(kwargs["model"], kwargs.get("optimizer"), **self._options)
        opened.close_on_raise = True
        opened.__enter__()
        self._watch, self.report = opened, opened.report

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last findings, and all hooks removed."""
        opened, self._watch = self._watch, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def _close(self) -> None:
        if self._watch is not None:  # a training that an exception ended
            self._watch.close()
            self._watch = None

    def __del__(self) -> None:
        self._close()
