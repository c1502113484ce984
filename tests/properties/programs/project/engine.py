"""Loops."""

import torch
import torch.nn.functional as F


def train_one_epoch(model, data_loader, optimizer, device):
    model.train()
    for tokens, labels in data_loader:
        tokens, labels = tokens.to(device), labels.to(device)
        loss = F.cross_entropy(model(tokens), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def evaluate(model, data_loader, device):
    model.eval()
    hits = 0
    for tokens, labels in data_loader:
        logits = model(tokens.to(device))
        hits += (logits.argmax(1).cpu() == labels).sum().item()
    return hits / len(data_loader.dataset)
