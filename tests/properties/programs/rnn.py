import math

import torch
from torch import nn


class RNNModel(nn.Module):
    def __init__(self, vocabulary, size=128, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size)
        self.rnn = nn.LSTM(size, size, layers, dropout=0.4, batch_first=True)
        self.drop = nn.Dropout(0.4)
        self.decoder = nn.Linear(size, vocabulary)

    def forward(self, tokens, hidden):
        emb = self.drop(self.embedding(tokens))
        output, hidden = self.rnn(emb, hidden)
        return self.decoder(self.drop(output)), hidden


def repackage(hidden):
    return tuple(h.detach() for h in hidden)


def batches(source, length):
    for start in range(0, source.size(1) - 1, length):
        end = min(start + length, source.size(1) - 1)
        yield source[:, start:end], source[:, start + 1 : end + 1]


model = RNNModel(1000)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.25, patience=0)


def evaluate(source):
    model.eval()
    total = 0.0
    hidden = None
    count = 0
    with torch.no_grad():
        for data, targets in batches(source, 35):
            output, hidden = model(data, hidden)
            total += criterion(output.flatten(0, 1), targets.flatten()).item()
            count += 1
    return total / count


def train(source):
    model.train()
    hidden = None
    for data, targets in batches(source, 35):
        optimizer.zero_grad()
        if hidden is not None:
            hidden = repackage(hidden)
        output, hidden = model(data, hidden)
        loss = criterion(output.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()


corpus = torch.randint(0, 1000, (20, 2000))
valid = torch.randint(0, 1000, (20, 500))
for epoch in range(1, 6):
    train(corpus)
    val_loss = evaluate(valid)
    scheduler.step(val_loss)
    print(epoch, math.exp(val_loss))
