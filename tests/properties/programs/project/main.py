"""Entry point."""

import torch
from engine import evaluate, train_one_epoch
from models import create_model
from torch.utils.data import DataLoader, TensorDataset


def main():
    device = torch.device("cpu")
    data = TensorDataset(torch.randint(0, 500, (64, 40)), torch.randint(0, 2, (64,)))
    train_loader = DataLoader(data, batch_size=8, shuffle=True)
    test_loader = DataLoader(data, batch_size=8)
    model = create_model(500, 2).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for epoch in range(10):
        train_one_epoch(model, train_loader, optimizer, device)
        scheduler.step()
        print(epoch, evaluate(model, test_loader, device))


if __name__ == "__main__":
    main()
