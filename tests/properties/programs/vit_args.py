"""A small vision transformer, its options from the command line, an average of its weights."""
import argparse
import copy
import math
import os
import tempfile
import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class AverageMeter:
    def __init__(self, name):
        self.name = name
        self.reset()

    def reset(self):
        self.sum = 0.0
        self.count = 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


class Block(nn.Module):
    def __init__(self, dim, heads, drop):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, dropout=drop, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim * 2), nn.GELU(), nn.Dropout(drop), nn.Linear(dim * 2, dim)
        )

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    def __init__(self, size=16, patch=4, dim=32, depth=2, heads=4, classes=4, drop=0.1):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        count = (size // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, count + 1, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim, heads, drop) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.size(0), -1, -1), x], dim=1)
        x = x + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        return self.head(self.norm(x)[:, 0])


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model)
        self.module.eval()
        for p in self.module.parameters():
            p.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1 - self.decay)


def mixup(images, targets, alpha, num_classes):
    one_hot = torch.nn.functional.one_hot(targets, num_classes).float()
    lam = torch.distributions.Beta(alpha, alpha).sample().item()
    order = torch.randperm(images.size(0))
    return lam * images + (1 - lam) * images[order], lam * one_hot + (1 - lam) * one_hot[order]


def accuracy(output, target, topk=(1,)):
    _, pred = output.topk(max(topk), 1)
    correct = pred.t().eq(target.view(1, -1))
    return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def train_one_epoch(model, ema, loader, criterion, optimizer, scheduler, epoch, args):
    model.train()
    losses = AverageMeter("loss")
    start = time.time()
    for i, (images, target) in enumerate(loader):
        images = images.to(args.device)
        target = target.to(args.device)
        if args.mixup > 0:
            images, target = mixup(images, target, args.mixup, args.num_classes)
        output = model(images)
        loss = criterion(output, target)
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"loss is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        if args.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        scheduler.step()
        ema.update(model)
        losses.update(loss.item(), images.size(0))
        if i % args.print_freq == 0:
            print(f"[{epoch}][{i}/{len(loader)}] {losses.avg:.3f} {time.time() - start:.1f}s")
    return losses.avg


def validate(model, loader, criterion, args):
    model.eval()
    losses, top1, top2 = AverageMeter("loss"), AverageMeter("acc1"), AverageMeter("acc2")
    with torch.no_grad():
        for images, target in loader:
            images, target = images.to(args.device), target.to(args.device)
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            acc1, acc2 = accuracy(output, target, topk=(1, 2))
            top1.update(acc1, images.size(0))
            top2.update(acc2, images.size(0))
    print(f"* loss {losses.avg:.3f} acc@1 {top1.avg:.2f} acc@2 {top2.avg:.2f}")
    return top1.avg


def param_groups(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        if param.ndim <= 1 or name.endswith("_token") or name == "pos_embed":
            no_decay.append(param)
        else:
            decay.append(param)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]


def get_args():
    parser = argparse.ArgumentParser("tiny vit")
    parser.add_argument("--epochs", default=2, type=int)
    parser.add_argument("--batch-size", default=16, type=int)
    parser.add_argument("--lr", default=1e-3, type=float)
    parser.add_argument("--weight-decay", default=0.05, type=float)
    parser.add_argument("--warmup-steps", default=4, type=int)
    parser.add_argument("--mixup", default=0.2, type=float)
    parser.add_argument("--clip-grad", default=1.0, type=float)
    parser.add_argument("--num-classes", default=4, type=int)
    parser.add_argument("--print-freq", default=4, type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", default="")
    parser.add_argument("--evaluate", action="store_true")
    return parser.parse_args()


def main():
    args = get_args()
    torch.manual_seed(0)
    data = torch.randn(96, 3, 16, 16)
    labels = data.mean(dim=(1, 2, 3)).mul(40).long().remainder(args.num_classes)
    train_loader = DataLoader(TensorDataset(data[:64], labels[:64]), args.batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(data[64:], labels[64:]), args.batch_size)

    model = TinyViT(classes=args.num_classes).to(args.device)
    ema = ModelEma(model, 0.9)
    optimizer = torch.optim.AdamW(param_groups(model, args.weight_decay), lr=args.lr)
    total = args.epochs * len(train_loader)

    def lr_at(step):
        if step < args.warmup_steps:
            return (step + 1) / args.warmup_steps
        return 0.5 * (1 + math.cos(math.pi * step / total))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_at)
    start_epoch, best = 0, 0.0
    if args.resume and os.path.isfile(args.resume):
        checkpoint = torch.load(args.resume, map_location="cpu")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        start_epoch = checkpoint["epoch"] + 1
    val_criterion = nn.CrossEntropyLoss()
    if args.evaluate:
        validate(model, val_loader, val_criterion, args)
        return
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    with tempfile.TemporaryDirectory() as out:
        for epoch in range(start_epoch, args.epochs):
            train_one_epoch(
                model, ema, train_loader, criterion, optimizer, scheduler, epoch, args
            )
            acc = validate(model, val_loader, val_criterion, args)
            acc_ema = validate(ema.module, val_loader, val_criterion, args)
            best = max(best, acc, acc_ema)
            state = {
                "epoch": epoch,
                "model": model.state_dict(),
                "ema": ema.module.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            torch.save(state, os.path.join(out, "last.pth"))
    print(f"best {best:.2f}")


if __name__ == "__main__":
    main()
