"""An encoder and a decoder with attention, taught with and without forcing."""

import random

import torch
import torch.nn as nn
import torch.nn.functional as F

BOS, EOS, VOCAB = 0, 1, 12


class Encoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, hidden)
        self.dropout = nn.Dropout(0.1)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)

    def forward(self, source):
        return self.gru(self.dropout(self.embedding(source)))


class Decoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, hidden)
        self.dropout = nn.Dropout(0.1)
        self.gru = nn.GRU(2 * hidden, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, VOCAB)

    def forward(self, token, hidden, memory):
        weights = torch.bmm(self.query(hidden[-1]).unsqueeze(1), memory.transpose(1, 2)).softmax(-1)
        context = torch.bmm(weights, memory)
        embedded = self.dropout(self.embedding(token))
        output, hidden = self.gru(torch.cat((embedded, context), dim=-1), hidden)
        return self.out(output).squeeze(1), hidden


def train_step(source, target, encoder, decoder, encoder_optimizer, decoder_optimizer, forcing):
    encoder_optimizer.zero_grad()
    decoder_optimizer.zero_grad()
    memory, hidden = encoder(source)
    token = torch.full((source.size(0), 1), BOS)
    loss = 0
    for t in range(target.size(1)):
        logits, hidden = decoder(token, hidden, memory)
        loss = loss + F.cross_entropy(logits, target[:, t])
        if random.random() < forcing:
            token = target[:, t : t + 1]
        else:
            token = logits.argmax(-1, keepdim=True).detach()
    loss.backward()
    nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
    encoder_optimizer.step()
    decoder_optimizer.step()
    return loss.item() / target.size(1)


def translate(source, encoder, decoder, length):
    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        memory, hidden = encoder(source)
        token = torch.full((source.size(0), 1), BOS)
        result = []
        for _ in range(length):
            logits, hidden = decoder(token, hidden, memory)
            token = logits.argmax(-1, keepdim=True)
            result.append(token)
    return torch.cat(result, dim=1)


def train_iters(encoder, decoder, iters=12, print_every=4):
    encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    decoder_optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-3)
    total = 0.0
    for i in range(1, iters + 1):
        encoder.train()
        decoder.train()
        source = torch.randint(2, VOCAB, (8, 5))
        target = source.flip(1)
        total += train_step(
            source, target, encoder, decoder, encoder_optimizer, decoder_optimizer, 0.5
        )
        if i % print_every == 0:
            guess = translate(source, encoder, decoder, 5)
            print(i, total / print_every, (guess == target).float().mean().item())
            total = 0.0


if __name__ == "__main__":
    train_iters(Encoder(16), Decoder(16))
