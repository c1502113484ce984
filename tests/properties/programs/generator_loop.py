"""Epochs and steps come from generators; the caller only watches."""

import itertools

import torch
from torch import nn, optim


def endless(data, targets, size):
    while True:
        order = torch.randperm(len(data))
        for chunk in order.split(size):
            yield data[chunk], targets[chunk]


def training(model, optimizer, batches, criterion):
    """Yields the loss of each step."""
    for x, y in batches:
        model.train()
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        yield loss.item()


@torch.inference_mode()
def score(model, data, targets):
    model.eval()
    return (model(data).argmax(dim=-1) == targets).float().mean().item()


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.conv = nn.Conv1d(12, 16, 3, padding=1)
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(16, classes)

    def forward(self, tokens):
        x = self.embed(tokens).transpose(1, 2)
        x = torch.relu(self.conv(x)).amax(-1)
        return self.head(self.dropout(x))


def main():
    tokens, labels = torch.randint(0, 50, (200, 10)), torch.randint(0, 4, (200,))
    net = Net()
    opt = optim.RMSprop(net.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    source = endless(tokens[:150], labels[:150], 25)
    losses = []
    for step, value in enumerate(itertools.islice(training(net, opt, source, criterion), 40)):
        losses.append(value)
        if step % 10 == 9:
            print(step, sum(losses[-10:]) / 10, score(net, tokens[150:], labels[150:]))


if __name__ == "__main__":
    main()
