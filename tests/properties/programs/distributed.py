import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.layers(x))


def worker(train_set, test_set, epochs=3):
    dist.init_process_group("nccl")
    rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(rank)
    model = Encoder().to(rank)
    ddp_model = DDP(model, device_ids=[rank])
    sampler = DistributedSampler(train_set, shuffle=True)
    train_loader = DataLoader(train_set, batch_size=32, sampler=sampler)
    test_loader = DataLoader(test_set, batch_size=64)
    criterion = nn.CrossEntropyLoss().to(rank)
    optimizer = torch.optim.SGD(ddp_model.parameters(), lr=0.01)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        ddp_model.train()
        for x, y in train_loader:
            x, y = x.to(rank), y.to(rank)
            optimizer.zero_grad()
            loss = criterion(ddp_model(x), y)
            loss.backward()
            optimizer.step()
        if rank == 0:
            ddp_model.eval()
            hits = 0
            with torch.no_grad():
                for x, y in test_loader:
                    hits += (ddp_model.module(x.to(rank)).argmax(1).cpu() == y).sum().item()
            torch.save(ddp_model.module.state_dict(), "model.pt")
            print(epoch, hits)
    dist.destroy_process_group()
