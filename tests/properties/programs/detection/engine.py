import math
import sys

import torch

from meters import MeterSet


def train_one_epoch(model, optimizer, data_loader, device, epoch, scaler=None, warmup=None):
    model.train()
    meters = MeterSet()
    for images, targets in meters.log_every(data_loader, 4, f"epoch {epoch}"):
        images, targets = images.to(device), targets.to(device)
        with torch.autocast("cpu", enabled=scaler is not None):
            loss_dict = model(images, targets)
            losses = sum(loss for loss in loss_dict.values())
        value = losses.item()
        if not math.isfinite(value):
            sys.exit(1)
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(losses).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            losses.backward()
            optimizer.step()
        if warmup is not None:
            warmup.step()
        meters.update(loss=value, **{k: v.item() for k, v in loss_dict.items()})
    return meters


@torch.inference_mode()
def evaluate(model, data_loader, device):
    threads = torch.get_num_threads()
    model.eval()
    error = seen = 0.0
    for images, targets in data_loader:
        images, targets = images.to(device), targets.to(device)
        boxes = model(images)
        error += (boxes - targets).abs().sum().item()
        seen += targets.numel()
    torch.set_num_threads(threads)
    return error / seen
