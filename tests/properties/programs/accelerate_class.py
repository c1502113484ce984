"""A trainer around accelerate: accumulation, clipping, metrics over processes."""

import torch
import torch.nn as nn
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset


class TextClassifier(nn.Module):
    def __init__(self, vocab=40, width=16, classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, tokens):
        return self.classifier(self.encoder(self.embed(tokens)).mean(1))


class AcceleratedTrainer:
    def __init__(self, model, train_set, eval_set, lr=1e-3, accumulate=2):
        self.accelerator = Accelerator(gradient_accumulation_steps=accumulate, cpu=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        train_loader = DataLoader(train_set, batch_size=8, shuffle=True)
        eval_loader = DataLoader(eval_set, batch_size=16)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=20)
        (
            self.model,
            self.optimizer,
            self.train_loader,
            self.eval_loader,
            self.scheduler,
        ) = self.accelerator.prepare(model, optimizer, train_loader, eval_loader, scheduler)
        self.loss_fn = nn.CrossEntropyLoss()

    def train_epoch(self):
        self.model.train()
        for tokens, labels in self.train_loader:
            with self.accelerator.accumulate(self.model):
                loss = self.loss_fn(self.model(tokens), labels)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()

    def evaluate(self):
        self.model.eval()
        right = seen = 0
        for tokens, labels in self.eval_loader:
            with torch.no_grad():
                logits = self.model(tokens)
            guess, labels = self.accelerator.gather_for_metrics((logits.argmax(-1), labels))
            right += (guess == labels).sum().item()
            seen += labels.numel()
        return right / seen

    def fit(self, epochs):
        for epoch in range(epochs):
            self.train_epoch()
            self.accelerator.print(epoch, self.evaluate())


if __name__ == "__main__":
    tokens, labels = torch.randint(0, 40, (64, 6)), torch.randint(0, 3, (64,))
    split = TensorDataset(tokens[:48], labels[:48]), TensorDataset(tokens[48:], labels[48:])
    AcceleratedTrainer(TextClassifier(), *split).fit(2)
