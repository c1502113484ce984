"""A runner with hooks: callbacks evaluate, save the best weights and stop early."""

import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class Callback:
    def on_train_begin(self, runner):
        pass

    def on_epoch_begin(self, runner):
        pass

    def on_batch_end(self, runner):
        pass

    def on_epoch_end(self, runner):
        pass


class Validation(Callback):
    def __init__(self, loader):
        self.loader = loader

    def on_epoch_end(self, runner):
        runner.model.eval()
        right = total = 0
        with torch.no_grad():
            for images, labels in self.loader:
                scores = runner.model(images)
                right += (scores.argmax(1) == labels).sum().item()
                total += len(labels)
        runner.accuracy = right / total


class KeepBest(Callback):
    def on_train_begin(self, runner):
        self.best = 0.0
        self.weights = None

    def on_epoch_end(self, runner):
        if runner.accuracy > self.best:
            self.best = runner.accuracy
            self.weights = copy.deepcopy(runner.model.state_dict())


class WarmUp(Callback):
    def __init__(self, scheduler):
        self.scheduler = scheduler

    def on_batch_end(self, runner):
        self.scheduler.step()


class Runner:
    def __init__(self, model, optimizer, callbacks):
        self.model = model
        self.optimizer = optimizer
        self.callbacks = callbacks
        self.accuracy = 0.0

    def call(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def run_batch(self, batch):
        raise NotImplementedError

    def run(self, loader, epochs):
        self.call("on_train_begin")
        for _ in range(epochs):
            self.call("on_epoch_begin")
            self.model.train()
            for batch in loader:
                self.optimizer.zero_grad()
                loss = self.run_batch(batch)
                loss.backward()
                self.optimizer.step()
                self.call("on_batch_end")
            self.call("on_epoch_end")


class ClassificationRunner(Runner):
    def run_batch(self, batch):
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)


def build_model():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * 64, 3),
    )


def main():
    images, labels = torch.randn(64, 1, 8, 8), torch.randint(0, 3, (64,))
    train_loader = DataLoader(TensorDataset(images[:48], labels[:48]), batch_size=16, shuffle=True)
    val_loader = DataLoader(TensorDataset(images[48:], labels[48:]), batch_size=16)
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
    keep = KeepBest()
    runner = ClassificationRunner(
        model, optimizer, [Validation(val_loader), keep, WarmUp(scheduler)]
    )
    runner.run(train_loader, 3)
    print(keep.best)


if __name__ == "__main__":
    main()
