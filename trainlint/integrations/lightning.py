"""A callback for the Trainer of Lightning."""

from __future__ import annotations

from typing import Any

from trainlint.runtime import Report, Watch, watch

try:
    from lightning.pytorch import Callback
except ImportError:  # the same library under its older name
    from pytorch_lightning import Callback


class TrainlintCallback(Callback):  # type: ignore[misc]
    """Watches a fit; takes the options of `trainlint.runtime.watch`.

    Lightning calls `training_step`, and not the module: a batch stands for a forward, which ends
    with the loss that goes into backward.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._watch: Watch | None = None
        self._inside = False
        self.report = Report()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The sanity check is over, the optimizers exist."""
        self._close()
        opened = watch(pl_module, list(trainer.optimizers) or None, **self._options)
        opened.close_on_raise = True
        opened.__enter__()
        self._watch, self.report = opened, opened.report

    def _begin(self, pl_module: Any) -> None:
        if self._watch is not None and not self._inside:
            self._inside = True
            self._watch.on_forward(pl_module)

    def _end(self, pl_module: Any, output: object) -> None:
        if self._watch is not None and self._inside:
            self._inside = False
            self._watch.on_forward_end(pl_module, output)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self._begin(pl_module)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        self._begin(pl_module)
        self._end(pl_module, loss)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._end(pl_module, None)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._begin(pl_module)

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._end(pl_module, outputs)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        opened, self._watch = self._watch, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._close()

    def _close(self) -> None:
        self._inside = False
        if self._watch is not None:
            self._watch.close()
            self._watch = None
