"""Adversarial training: the attack runs in eval mode, the step in train mode."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class SmallConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.2)
        self.linear = nn.Linear(8 * 36, 4)

    def forward(self, x):
        return self.linear(self.dropout(F.relu(self.bn(self.conv(x)))).flatten(1))


def pgd(model, x, y, eps=0.1, alpha=0.03, steps=3):
    was_training = model.training
    model.eval()
    delta = torch.zeros_like(x).uniform_(-eps, eps).requires_grad_(True)
    for _ in range(steps):
        loss = F.cross_entropy(model(x + delta), y)
        (grad,) = torch.autograd.grad(loss, delta)
        delta.data = (delta + alpha * grad.sign()).clamp(-eps, eps)
    if was_training:
        model.train()
    return (x + delta).detach()


def train(model, batches, optimizer, scheduler):
    model.train()
    for x, y in batches:
        adversarial = pgd(model, x, y)
        optimizer.zero_grad()
        clean_loss = F.cross_entropy(model(x), y)
        robust_loss = F.cross_entropy(model(adversarial), y)
        loss = 0.5 * (clean_loss + robust_loss)
        loss.backward()
        optimizer.step()
    scheduler.step()


def test(model, batches):
    model.eval()
    clean = robust = count = 0
    for x, y in batches:
        adversarial = pgd(model, x, y)
        with torch.no_grad():
            clean += (model(x).argmax(1) == y).sum().item()
            robust += (model(adversarial).argmax(1) == y).sum().item()
        count += len(y)
    return clean / count, robust / count


def main():
    batches = [(torch.rand(8, 1, 6, 6), torch.randint(0, 4, (8,))) for _ in range(5)]
    model = SmallConv()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2])
    for epoch in range(3):
        train(model, batches[:4], optimizer, scheduler)
        print(epoch, *test(model, batches[4:]))


if __name__ == "__main__":
    main()
