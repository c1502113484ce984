"""transformers' Trainer with a loss and an evaluation of one's own."""

import tempfile

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Sentences(Dataset):
    def __init__(self, count):
        self.ids = torch.randint(5, 60, (count, 8))
        self.labels = torch.randint(0, 2, (count,))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        ids = self.ids[index]
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "labels": self.labels[index],
        }


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
        loss = loss_fn(outputs.logits, labels)
        return (loss, outputs) if return_outputs else loss


class Probe(TrainerCallback):
    def __init__(self, data):
        self.data = data

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        training = model.training
        model.eval()
        with torch.no_grad():
            item = self.data[0]
            logits = model(input_ids=item["input_ids"][None]).logits
        model.train(training)
        print(state.epoch, logits.argmax(-1).item())


def metrics(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def main():
    config = BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
    )
    model = BertForSequenceClassification(config)
    for param in model.bert.embeddings.parameters():
        param.requires_grad = False
    train_set, eval_set = Sentences(32), Sentences(16)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            num_train_epochs=2,
            per_device_train_batch_size=8,
            eval_strategy="epoch",
            report_to=[],
            save_strategy="no",
            use_cpu=True,
        )
        trainer = WeightedTrainer(
            model=model,
            args=args,
            train_dataset=train_set,
            eval_dataset=eval_set,
            compute_metrics=metrics,
            callbacks=[Probe(eval_set)],
        )
        trainer.train()
        print(trainer.evaluate())


if __name__ == "__main__":
    main()
