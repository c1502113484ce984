"""A shared embedding learns from triplets; a nearest neighbour judges it."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Triplets(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        same = torch.nonzero(self.y == self.y[index]).flatten()
        other = torch.nonzero(self.y != self.y[index]).flatten()
        positive = same[torch.randint(len(same), (1,))].item()
        negative = other[torch.randint(len(other), (1,))].item()
        return self.x[index], self.x[positive], self.x[negative]


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.PReLU())
        self.dropout = nn.Dropout(0.1)
        self.project = nn.Linear(24, 6)

    def forward(self, x):
        return F.normalize(self.project(self.dropout(self.features(x))), dim=1)

    def get_embedding(self, x):
        return self.forward(x)


class TripletNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, anchor, positive, negative):
        return tuple(self.embedding_net(t) for t in (anchor, positive, negative))


def embed(model, x):
    model.eval()
    with torch.no_grad():
        return model.embedding_net.get_embedding(x)


def nearest_accuracy(model, x, y):
    vectors = embed(model, x)
    similarity = vectors @ vectors.T
    similarity.fill_diagonal_(-1)
    return (y[similarity.argmax(1)] == y).float().mean().item()


def fit(model, loader, x, y, n_epochs=3, margin=0.2):
    loss_fn = nn.TripletMarginLoss(margin)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 8, gamma=0.1)
    for epoch in range(n_epochs):
        losses = []
        model.train()
        for triplet in loader:
            optimizer.zero_grad()
            outputs = model(*triplet)
            loss = loss_fn(*outputs)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(epoch, sum(losses) / len(losses), nearest_accuracy(model, x, y))


def main():
    y = torch.randint(0, 4, (100,))
    x = torch.randn(100, 8) + y[:, None]
    fit(TripletNet(EmbeddingNet()), DataLoader(Triplets(x, y), batch_size=20, shuffle=True), x, y)


if __name__ == "__main__":
    main()
