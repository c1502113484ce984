"""Processes over gloo, one here: samplers, a metric over all ranks, checkpoints of the first."""
import argparse
import os
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.optim as optim
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler


def setup(rank, world_size, port):
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["MASTER_PORT"] = port
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def is_main():
    return dist.get_rank() == 0


def reduce_mean(tensor):
    result = tensor.clone()
    dist.all_reduce(result, op=dist.ReduceOp.SUM)
    return result / dist.get_world_size()


class ConvNet(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(8, 16, kernel_size=5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.fc = nn.Linear(3 * 3 * 16, num_classes)

    def forward(self, x):
        out = self.layer2(self.layer1(x))
        return self.fc(out.reshape(out.size(0), -1))


class Trainer:
    def __init__(self, model, train_data, test_data, optimizer, scheduler, rank, save_every, folder):
        self.rank = rank
        self.train_data, self.test_data = train_data, test_data
        self.optimizer, self.scheduler = optimizer, scheduler
        self.save_every, self.folder = save_every, folder
        self.criterion = nn.CrossEntropyLoss()
        self.model = DDP(model)

    def _run_batch(self, source, targets):
        self.optimizer.zero_grad()
        output = self.model(source)
        loss = self.criterion(output, targets)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _run_epoch(self, epoch):
        self.train_data.sampler.set_epoch(epoch)
        self.model.train()
        losses = []
        for source, targets in self.train_data:
            losses.append(self._run_batch(source, targets))
        self.scheduler.step()
        mean = reduce_mean(torch.stack(losses).mean())
        if is_main():
            print(f"[{self.rank}] epoch {epoch} steps {len(self.train_data)} loss {mean:.4f}")

    def _save_checkpoint(self, epoch):
        path = os.path.join(self.folder, f"checkpoint_{epoch}.pt")
        torch.save({"model": self.model.module.state_dict(), "epoch": epoch}, path)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        counts = torch.zeros(2)
        for source, targets in self.test_data:
            output = self.model(source)
            counts[0] += (output.argmax(dim=1) == targets).sum()
            counts[1] += targets.numel()
        dist.all_reduce(counts)
        return (counts[0] / counts[1]).item()

    def train(self, max_epochs):
        for epoch in range(max_epochs):
            self._run_epoch(epoch)
            accuracy = self.evaluate()
            if is_main():
                print(f"accuracy {accuracy:.3f}")
                if epoch % self.save_every == 0:
                    self._save_checkpoint(epoch)
            dist.barrier()


def worker(rank, world_size, args, folder, port):
    setup(rank, world_size, port)
    torch.manual_seed(0)
    y = torch.randint(0, 4, (96,))
    x = torch.randn(96, 1, 12, 12) + y.view(-1, 1, 1, 1)
    train_set, test_set = TensorDataset(x[:64], y[:64]), TensorDataset(x[64:], y[64:])
    train_data = DataLoader(
        train_set, args.batch_size, shuffle=False, sampler=DistributedSampler(train_set)
    )
    test_data = DataLoader(
        test_set, args.batch_size, sampler=DistributedSampler(test_set, shuffle=False)
    )
    model = ConvNet()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    trainer = Trainer(
        model, train_data, test_data, optimizer, scheduler, rank, args.save_every, folder
    )
    trainer.train(args.epochs)
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="distributed training job")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--world-size", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(
            worker, args=(args.world_size, args, folder, "29531"), nprocs=args.world_size, join=True
        )
