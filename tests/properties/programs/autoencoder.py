import torch
from torch import nn
from torch.utils.data import DataLoader, random_split
from tqdm import tqdm

from datasets_local import load_images


class Autoencoder(nn.Module):
    def __init__(self, features=784, code=32, p=0.2):
        super(Autoencoder, self).__init__()
        self.p = p
        self.encoder = nn.Sequential(nn.Linear(features, 256), nn.BatchNorm1d(256), nn.ReLU())
        self.bottleneck = nn.Linear(256, code)
        self.decoder = nn.Linear(code, features)

    def encode(self, x):
        return self.bottleneck(nn.functional.dropout(self.encoder(x), self.p, self.training))

    def forward(self, x):
        return torch.sigmoid(self.decoder(self.encode(x)))


def run_epoch(model, loader, optimizer=None):
    total = 0.0
    for images in tqdm(loader):
        images = images.view(images.size(0), -1)
        output = model(images)
        loss = nn.functional.binary_cross_entropy(output, images)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item()
    return total / len(loader)


def main():
    full = load_images()
    train_set, val_set = random_split(full, [0.9, 0.1])
    train_loader = DataLoader(train_set, 64, shuffle=True)
    val_loader = DataLoader(val_set, 64)
    model = Autoencoder()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    history = {"train": [], "val": []}
    for epoch in range(10):
        model.train()
        history["train"].append(run_epoch(model, train_loader, optimizer))
        model.eval()
        with torch.no_grad():
            history["val"].append(run_epoch(model, val_loader))
        print(epoch, history["val"][-1])


main()
