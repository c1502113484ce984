import torch
from torch import nn
from torch.cuda.amp import GradScaler, autocast


def evaluate(model, loader, device):
    was_training = model.training
    model.eval()
    losses = []
    with torch.no_grad():
        for x, y in loader:
            with autocast():
                out = model(x.to(device))
                losses.append(nn.functional.mse_loss(out, y.to(device)).item())
    model.train(was_training)
    return sum(losses) / len(losses)


def main(train_loader, val_loader, epochs=4, accumulation_steps=4):
    device = torch.device("cuda")
    model = nn.Sequential(nn.Linear(10, 128), nn.SiLU(), nn.Dropout(0.2), nn.Linear(128, 1))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=1000)
    scaler = GradScaler()
    model.train()
    for epoch in range(epochs):
        optimizer.zero_grad(set_to_none=True)
        for step, (x, y) in enumerate(train_loader):
            x, y = x.to(device), y.to(device)
            with autocast():
                prediction = model(x)
                loss = nn.functional.mse_loss(prediction, y)
                loss = loss / accumulation_steps
            scaler.scale(loss).backward()
            if (step + 1) % accumulation_steps == 0:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()
        val_loss = evaluate(model, val_loader, device)
        print(epoch, val_loss)
