"""A small BERT with a head of its own: groups, a warm-up, accumulation, early stop, F1."""
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler
from transformers import BertConfig, BertModel, get_linear_schedule_with_warmup


@dataclass
class Config:
    epochs: int = 2
    train_batch: int = 8
    eval_batch: int = 16
    lr: float = 5e-4
    head_lr: float = 1e-3
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    accumulate: int = 2
    patience: int = 2
    seed: int = 7


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Reviews(Dataset):
    def __init__(self, n, vocab=100, length=12):
        self.ids = torch.randint(5, vocab, (n, length))
        self.labels = (self.ids[:, 1] > vocab // 2).long()
        self.mask = torch.ones_like(self.ids)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "attention_mask": self.mask[i], "labels": self.labels[i]}


class BertClassifier(nn.Module):
    def __init__(self, config, num_labels=2):
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(0.3)
        self.classifier = nn.Linear(config.hidden_size, num_labels)

    def forward(self, input_ids, attention_mask, labels=None):
        outputs = self.bert(input_ids, attention_mask=attention_mask)
        pooled = outputs.last_hidden_state[:, 0]
        logits = self.classifier(self.dropout(pooled))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return (loss, logits) if loss is not None else logits


def build_optimizer(model, cfg):
    no_decay = ["bias", "LayerNorm.weight"]
    encoder = list(model.bert.named_parameters())
    grouped = [
        {
            "params": [p for n, p in encoder if not any(nd in n for nd in no_decay)],
            "weight_decay": 0.01,
        },
        {"params": [p for n, p in encoder if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
        {"params": model.classifier.parameters(), "lr": cfg.head_lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(grouped, lr=cfg.lr)


def macro_f1(preds, labels):
    scores = []
    for c in np.unique(labels):
        tp = np.sum((preds == c) & (labels == c))
        fp = np.sum((preds == c) & (labels != c))
        fn = np.sum((preds != c) & (labels == c))
        scores.append(2 * tp / max(1, 2 * tp + fp + fn))
    return float(np.mean(scores))


def evaluate(model, loader, device):
    model.eval()
    preds, labels = [], []
    total = 0.0
    for batch in loader:
        batch = {k: v.to(device) for k, v in batch.items()}
        with torch.no_grad():
            loss, logits = model(**batch)
        total += loss.item()
        preds.append(logits.argmax(-1).cpu().numpy())
        labels.append(batch["labels"].cpu().numpy())
    preds, labels = np.concatenate(preds), np.concatenate(labels)
    return total / len(loader), macro_f1(preds, labels)


def train(cfg, model, train_loader, dev_loader, device):
    optimizer = build_optimizer(model, cfg)
    t_total = len(train_loader) // cfg.accumulate * cfg.epochs
    scheduler = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=int(cfg.warmup * t_total), num_training_steps=t_total
    )
    best_f1, bad_epochs, best_state, global_step = 0.0, 0, None, 0
    model.zero_grad()
    for epoch in range(cfg.epochs):
        model.train()
        running = 0.0
        for step, batch in enumerate(train_loader):
            batch = {k: v.to(device) for k, v in batch.items()}
            loss, _ = model(**batch)
            loss = loss / cfg.accumulate
            loss.backward()
            running += loss.item()
            if (step + 1) % cfg.accumulate == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.max_grad_norm)
                optimizer.step()
                scheduler.step()
                model.zero_grad()
                global_step += 1
        dev_loss, f1 = evaluate(model, dev_loader, device)
        print(f"epoch {epoch} train {running:.3f} dev {dev_loss:.3f} f1 {f1:.3f}")
        if f1 > best_f1:
            best_f1, bad_epochs = f1, 0
            best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        else:
            bad_epochs += 1
            if bad_epochs >= cfg.patience:
                break
    if best_state is not None:
        model.load_state_dict(best_state)
    return global_step, best_f1


def main():
    cfg = Config()
    set_seed(cfg.seed)
    device = torch.device("cpu")
    train_set, dev_set, test_set = Reviews(96), Reviews(32), Reviews(32)
    train_loader = DataLoader(
        train_set, sampler=RandomSampler(train_set), batch_size=cfg.train_batch
    )
    dev_loader = DataLoader(dev_set, sampler=SequentialSampler(dev_set), batch_size=cfg.eval_batch)
    test_loader = DataLoader(test_set, batch_size=cfg.eval_batch)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    model = BertClassifier(config).to(device)
    steps, best = train(cfg, model, train_loader, dev_loader, device)
    loss, f1 = evaluate(model, test_loader, device)
    print(f"{steps} steps, dev {best:.3f}, test {loss:.3f} {f1:.3f}")


if __name__ == "__main__":
    main()
