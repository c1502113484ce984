import argparse

import torch
from torch.utils.data import DataLoader, TensorDataset

from engine import evaluate, train_one_epoch
from network import get_model


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--test-only", action="store_true")
    return parser.parse_args()


def main(args):
    device = torch.device(args.device)
    data = TensorDataset(torch.randn(40, 3, 8, 8), torch.rand(40, 4))
    loader = DataLoader(data, batch_size=8, shuffle=True)
    loader_test = DataLoader(data, batch_size=20)
    model = get_model(8)
    model.to(device)
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=args.lr, momentum=0.9)
    scaler = torch.amp.GradScaler(args.device) if args.amp else None
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1], gamma=0.1)
    if args.test_only:
        print(evaluate(model, loader_test, device=device))
        return
    for epoch in range(args.epochs):
        warmup = None
        if epoch == 0:
            warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=4)
        train_one_epoch(model, optimizer, loader, device, epoch, scaler, warmup)
        scheduler.step()
        print(evaluate(model, loader_test, device=device))


if __name__ == "__main__":
    main(get_args())
