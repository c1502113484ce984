"""Trainers: what they do to mode, gradients and the optimizer."""

from trainlint.libraries.spec import Settings, Spec, Table, TrainerClass

_TRL = (
    "SFT DPO Reward KTO RLOO GRPO ORPO CPO BCO GKD OnlineDPO XPO NashMD IterativeSFT PRM"
    " Distillation"
).split()

_HUGGINGFACE: dict[str, Spec] = {
    "transformers.Trainer": TrainerClass("transformers.Trainer"),
    "transformers.Seq2SeqTrainer": TrainerClass("transformers.Seq2SeqTrainer"),
    "transformers.TrainingArguments": Settings("training_arguments"),
    "transformers.Seq2SeqTrainingArguments": Settings("training_arguments"),
    "setfit.Trainer": TrainerClass("setfit.Trainer"),
    "setfit.SetFitTrainer": TrainerClass("setfit.SetFitTrainer"),
    "setfit.DistillationTrainer": TrainerClass("setfit.DistillationTrainer", model=1, args=2),
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
            f"trl.{name}Trainer", args=1, checkpoints=True, injects=True
        )
        for name in _TRL
        for place in ("", f"experimental.{name.lower()}.")
    },
    **{f"trl.{name}Config": Settings("training_arguments") for name in _TRL},
    # With a reference model in the second place.
    **{
        f"trl.{name}Trainer": TrainerClass(
            f"trl.{name}Trainer", args=2, checkpoints=True, injects=True
        )
        for name in ("DPO", "KTO", "BCO")
    },
}

TRAINERS = Table(
    calls={**_HUGGINGFACE, **_TRL_TABLE},
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
