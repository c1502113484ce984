"""Mixed precision, accumulation, clipping and a schedule, step by step."""

import math

import torch
import torch.nn as nn
from torch.amp import GradScaler, autocast
from torch.utils.data import DataLoader, TensorDataset


class Attention(nn.Module):
    def __init__(self, width, heads=2, dropout=0.1):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0
        )
        return self.proj(y.transpose(1, 2).reshape(b, t, c))


class Classifier(nn.Module):
    def __init__(self, width=16, classes=3):
        super().__init__()
        self.attention = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(32, classes)

    def forward(self, x):
        x = self.norm(x + self.attention(x))
        return self.head(self.mlp(x).mean(1))


def cosine(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def evaluate(model, loader, criterion):
    model.eval()
    loss = 0.0
    with torch.no_grad():
        for x, y in loader:
            with autocast("cpu", dtype=torch.bfloat16):
                loss += criterion(model(x), y).item()
    return loss / len(loader)


def train(model, train_loader, val_loader, epochs=2, accumulation=2):
    criterion = nn.CrossEntropyLoss()
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=1e-3
    )
    total = epochs * len(train_loader) // accumulation
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: cosine(s, 2, total))
    scaler = GradScaler("cpu")
    best = float("inf")
    for epoch in range(epochs):
        model.train()
        optimizer.zero_grad()
        for i, (x, y) in enumerate(train_loader):
            with autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(model(x), y)
                loss = loss / accumulation
            scaler.scale(loss).backward()
            if (i + 1) % accumulation == 0:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                scheduler.step()
        val_loss = evaluate(model, val_loader, criterion)
        if val_loss < best:
            best = val_loss
            torch.save({"model": model.state_dict(), "epoch": epoch}, "/tmp/amp_steps.pt")
        print(epoch, val_loss)


if __name__ == "__main__":
    data = TensorDataset(torch.randn(64, 5, 16), torch.randint(0, 3, (64,)))
    train(Classifier(), DataLoader(data, 8, shuffle=True), DataLoader(data, 32))
