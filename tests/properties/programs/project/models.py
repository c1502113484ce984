"""The networks of the project."""

import torch
from torch import nn


class TextCNN(nn.Module):
    """Convolutions over embeddings."""

    def __init__(self, vocab_size, num_classes, dropout=0.5):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, 64)
        self.convs = nn.ModuleList([nn.Conv1d(64, 100, k) for k in (3, 4, 5)])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(300, num_classes)

    def forward(self, tokens):
        x = self.embed(tokens).transpose(1, 2)
        pooled = [conv(x).relu().amax(dim=2) for conv in self.convs]
        return self.fc(self.dropout(torch.cat(pooled, dim=1)))


def create_model(vocab_size, num_classes):
    return TextCNN(vocab_size, num_classes)
