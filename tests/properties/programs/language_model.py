"""An LSTM over a stream of tokens, its state carried and cut from chunk to chunk."""

import math

import torch
import torch.nn as nn

VOCAB, CHUNK, CLIP = 30, 8, 0.25
LR = 2.0


class RNNModel(nn.Module):
    def __init__(self, width=24, layers=2, dropout=0.2):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(VOCAB, width)
        self.rnn = nn.LSTM(width, width, layers, dropout=dropout)
        self.decoder = nn.Linear(width, VOCAB)
        self.shape = (layers, width)

    def forward(self, tokens, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        return self.decoder(self.drop(output)).view(-1, VOCAB), hidden

    def init_hidden(self, size):
        layers, width = self.shape
        weight = next(self.parameters())
        return weight.new_zeros(layers, size, width), weight.new_zeros(layers, size, width)


def repackage(hidden):
    if isinstance(hidden, torch.Tensor):
        return hidden.detach()
    return tuple(repackage(h) for h in hidden)


def batchify(data, size):
    return data[: len(data) // size * size].view(size, -1).t().contiguous()


def get_chunk(source, i):
    length = min(CHUNK, len(source) - 1 - i)
    return source[i : i + length], source[i + 1 : i + 1 + length].reshape(-1)


corpus = torch.randint(0, VOCAB, (600,))
train_data, val_data = batchify(corpus[:500], 5), batchify(corpus[500:], 5)
model = RNNModel()
criterion = nn.CrossEntropyLoss()


def evaluate(source):
    model.eval()
    total = 0.0
    hidden = model.init_hidden(5)
    with torch.no_grad():
        for i in range(0, source.size(0) - 1, CHUNK):
            data, targets = get_chunk(source, i)
            output, hidden = model(data, hidden)
            total += len(data) * criterion(output, targets).item()
    return total / (len(source) - 1)


def train(optimizer):
    model.train()
    total = 0.0
    hidden = model.init_hidden(5)
    for i in range(0, train_data.size(0) - 1, CHUNK):
        data, targets = get_chunk(train_data, i)
        hidden = repackage(hidden)
        optimizer.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        total += loss.item()
    return total


optimizer = torch.optim.SGD(model.parameters(), lr=LR)
best = None
try:
    for epoch in range(1, 4):
        train(optimizer)
        val_loss = evaluate(val_data)
        print(epoch, val_loss, math.exp(val_loss))
        if best is None or val_loss < best:
            best = val_loss
        else:
            for group in optimizer.param_groups:
                group["lr"] /= 4.0
except KeyboardInterrupt:
    print("stopped")
print(evaluate(val_data))
