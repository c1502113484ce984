"""Trainers: what they do to mode, gradients and the optimizer."""

from trainlint.libraries.spec import (
    HookedLoop,
    Operation,
    Role,
    Settings,
    Spec,
    Table,
    TrainerClass,
)

_TRL = {
    **dict.fromkeys("SFT Reward ORPO CPO IterativeSFT PRM SDFT TPO".split(), 1),
    # With a reference model, a teacher or rewards in the second place.
    **dict.fromkeys("DPO KTO BCO GRPO RLOO GKD GOLD Distillation SDPO".split(), 2),
    **dict.fromkeys("OnlineDPO XPO NashMD".split(), 3),
}
"""The trainers of TRL, and the position of their arguments."""

_FOLDERS = {"OnlineDPO": "online_dpo", "NashMD": "nash_md"}

_HUGGINGFACE: dict[str, Spec] = {
    "transformers.Trainer": TrainerClass("transformers.Trainer"),
    "transformers.Seq2SeqTrainer": TrainerClass("transformers.Seq2SeqTrainer"),
    "transformers.TrainingArguments": Settings("training_arguments"),
    "transformers.Seq2SeqTrainingArguments": Settings("training_arguments"),
    "setfit.Trainer": TrainerClass("setfit.Trainer"),
    "setfit.SetFitTrainer": TrainerClass("setfit.SetFitTrainer", args=None),
    "setfit.DistillationTrainer": TrainerClass(
        "setfit.DistillationTrainer", model=1, args=2, keyword="student_model"
    ),
    "setfit.DistillationSetFitTrainer": TrainerClass(
        "setfit.DistillationSetFitTrainer", model=1, args=None, keyword="student_model"
    ),
    "setfit.TrainingArguments": Settings("training_arguments"),
    **{
        f"sentence_transformers.{place}{name}Trainer": TrainerClass(
            f"sentence_transformers.{name}Trainer"
        )
        for place, name in (
            ("", "SentenceTransformer"),
            ("cross_encoder.", "CrossEncoder"),
            ("sparse_encoder.", "SparseEncoder"),
        )
    },
    **{
        f"sentence_transformers.{place}{name}TrainingArguments": Settings("training_arguments")
        for place, name in (
            ("", "SentenceTransformer"),
            ("cross_encoder.", "CrossEncoder"),
            ("sparse_encoder.", "SparseEncoder"),
        )
    },
}

_TRL_TABLE: dict[str, Spec] = {
    **{
        f"trl.{place}{name}Trainer": TrainerClass(
            f"trl.{name}Trainer", args=args, checkpoints=True, injects=True
        )
        for name, args in _TRL.items()
        for place in ("", f"experimental.{_FOLDERS.get(name, name.lower())}.")
    },
    **{
        f"trl.{place}{name}Config": Settings("training_arguments")
        for name in _TRL
        for place in ("", f"experimental.{_FOLDERS.get(name, name.lower())}.")
    },
}

EVALUATION_SETTINGS = ("eval_strategy", "evaluation_strategy", "do_eval", "eval_on_start")
"""Settings of `TrainingArguments` without which `train()` evaluates nothing."""

TRAINED_CLASS = "transformers.PreTrainedModel"
"""What a class derived from the Trainer trains if nothing tells."""

OWN_STEPS = ("training_step", "compute_loss")
"""Methods of `transformers.Trainer` that a class derives from it to override; the outer first."""

LIGHTNING_LOOP = HookedLoop(
    before=("prepare_data", "setup", "configure_sharded_model", "configure_model"),
    optimizers="configure_optimizers",
    start=("on_fit_start", "on_train_start"),
    epoch_start=("on_train_epoch_start",),
    batch_start=("on_train_batch_start",),
    step="training_step",
    after_backward=("on_after_backward", "on_before_optimizer_step"),
    batch_end=("on_train_batch_end",),
    validation=(
        "on_validation_start",
        "on_validation_epoch_start",
        "on_validation_batch_start",
        "validation_step",
        "on_validation_batch_end",
        "on_validation_epoch_end",
        "on_validation_end",
    ),
    epoch_end=("training_epoch_end", "on_train_epoch_end"),
    takes_batch=("training_step", "validation_step", "on_train_batch_start"),
    automatic="automatic_optimization",
    index="optimizer_idx",
)
"""The order of Lightning 2.6; `tests/contracts/test_lightning.py` watches it."""

LIGHTNING_METHODS = {
    "manual_backward": "backward",
    "optimizers": "optimizers",
    "freeze": "freeze",
    "unfreeze": "unfreeze",
    **dict.fromkeys(
        (
            "log log_dict lr_schedulers lr_scheduler_step save_hyperparameters print all_gather"
            " toggle_optimizer untoggle_optimizer clip_gradients"
        ).split(),
        "look",
    ),
}
"""What a LightningModule's own methods do."""

LIGHTNING_FACTORY = "load_from_checkpoint"
"""The class method that makes one: by its constructor, and in the modes that this leaves."""

_LIGHTNING: dict[str, Spec] = {
    **{
        f"{place}.Trainer": Role("lightning_trainer")
        for place in ("lightning", "lightning.pytorch", "pytorch_lightning")
    },
    **{
        f"{place}.cli.LightningCLI": Operation("lightning_cli", "model_class")
        for place in ("lightning.pytorch", "pytorch_lightning")
    },
}

TRAINERS = Table(
    calls={**_HUGGINGFACE, **_TRL_TABLE, **_LIGHTNING},
    aliases=(
        ("transformers.trainer.Trainer", "transformers.Trainer"),
        ("transformers.trainer_seq2seq.Seq2SeqTrainer", "transformers.Seq2SeqTrainer"),
        ("transformers.training_args.TrainingArguments", "transformers.TrainingArguments"),
        ("trl.trainer", "trl"),
        ("trl.trainer.sft_trainer.SFTTrainer", "trl.SFTTrainer"),
        (
            "sentence_transformers.trainer.SentenceTransformerTrainer",
            "sentence_transformers.SentenceTransformerTrainer",
        ),
        (
            "sentence_transformers.training_args.SentenceTransformerTrainingArguments",
            "sentence_transformers.SentenceTransformerTrainingArguments",
        ),
    ),
    lightning_bases=(
        "pytorch_lightning.LightningModule",
        "pytorch_lightning.core.LightningModule",
        "pytorch_lightning.core.lightning.LightningModule",
        "lightning.LightningModule",
        "lightning.pytorch.LightningModule",
    ),
)
