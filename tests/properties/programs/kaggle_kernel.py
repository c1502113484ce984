"""A competition kernel: CFG, folds, mixed precision, a meter, out-of-fold scores, blended tests."""
import gc
import os
import random
import time

import numpy as np
import torch
import torch.nn as nn
from torch.cuda.amp import GradScaler
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    n_fold = 3
    trn_fold = [0, 1]
    epochs = 2
    batch_size = 16
    lr = 5e-3
    min_lr = 1e-4
    weight_decay = 1e-6
    max_grad_norm = 10
    gradient_accumulation_steps = 2
    apex = True
    print_freq = 2
    n_features = 10
    target_size = 1


device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed=42):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class AverageMeter:
    def __init__(self):
        self.reset()

    def reset(self):
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


class TrainDataset(Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, item):
        return torch.tensor(self.X[item]).float(), torch.tensor(self.y[item]).float()


class TestDataset(Dataset):
    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, item):
        return torch.tensor(self.X[item]).float()


class TabularModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.bn1 = nn.BatchNorm1d(cfg.n_features)
        self.dropout1 = nn.Dropout(0.1)
        self.dense1 = nn.utils.parametrizations.weight_norm(nn.Linear(cfg.n_features, 32))
        self.bn2 = nn.BatchNorm1d(32)
        self.dropout2 = nn.Dropout(0.2)
        self.dense2 = nn.Linear(32, cfg.target_size)

    def forward(self, x):
        x = self.dropout1(self.bn1(x))
        x = nn.functional.leaky_relu(self.dense1(x))
        return self.dense2(self.dropout2(self.bn2(x)))


def train_fn(train_loader, model, criterion, optimizer, epoch, scheduler, device):
    losses = AverageMeter()
    model.train()
    scaler = GradScaler(enabled=CFG.apex)
    start = time.time()
    for step, (x, labels) in enumerate(train_loader):
        x = x.to(device)
        labels = labels.to(device)
        batch_size = labels.size(0)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=CFG.apex):
            y_preds = model(x)
            loss = criterion(y_preds.view(-1).float(), labels)
        losses.update(loss.item(), batch_size)
        if CFG.gradient_accumulation_steps > 1:
            loss = loss / CFG.gradient_accumulation_steps
        scaler.scale(loss).backward()
        if (step + 1) % CFG.gradient_accumulation_steps == 0:
            scaler.unscale_(optimizer)
            grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            scheduler.step()
        if step % CFG.print_freq == 0 or step == (len(train_loader) - 1):
            print(f"Epoch: [{epoch + 1}][{step}/{len(train_loader)}] {losses.val:.4f} {time.time() - start:.0f}s")
    return losses.avg


def valid_fn(valid_loader, model, criterion, device):
    losses = AverageMeter()
    model.eval()
    preds = []
    for step, (x, labels) in enumerate(valid_loader):
        x = x.to(device)
        labels = labels.to(device)
        with torch.no_grad():
            y_preds = model(x).view(-1)
        loss = criterion(y_preds, labels)
        losses.update(loss.item(), labels.size(0))
        preds.append(y_preds.sigmoid().to("cpu").numpy())
    return losses.avg, np.concatenate(preds)


def inference(model, states, test_loader, device):
    model.to(device)
    probs = []
    for images in test_loader:
        images = images.to(device)
        avg_preds = []
        for state in states:
            model.load_state_dict(state)
            model.eval()
            with torch.no_grad():
                y_preds = model(images)
            avg_preds.append(y_preds.view(-1).sigmoid().to("cpu").numpy())
        probs.append(np.mean(avg_preds, axis=0))
    return np.concatenate(probs)


def get_score(y_true, y_pred):
    return float(((y_pred > 0.5) == (y_true > 0.5)).mean())


def train_loop(X, y, folds, fold):
    print(f"========== fold: {fold} training ==========")
    trn_idx, val_idx = np.where(folds != fold)[0], np.where(folds == fold)[0]
    train_loader = DataLoader(
        TrainDataset(X[trn_idx], y[trn_idx]), CFG.batch_size, shuffle=True, drop_last=True
    )
    valid_loader = DataLoader(TrainDataset(X[val_idx], y[val_idx]), CFG.batch_size * 2)
    model = TabularModel(CFG)
    model.to(device)
    optimizer = AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = CosineAnnealingLR(optimizer, T_max=CFG.epochs * len(train_loader), eta_min=CFG.min_lr)
    criterion = nn.BCEWithLogitsLoss()
    best_score, best_preds, best_state = 0.0, None, None
    for epoch in range(CFG.epochs):
        avg_loss = train_fn(train_loader, model, criterion, optimizer, epoch, scheduler, device)
        avg_val_loss, preds = valid_fn(valid_loader, model, criterion, device)
        score = get_score(y[val_idx], preds)
        print(f"Epoch {epoch + 1} - train {avg_loss:.4f} val {avg_val_loss:.4f} score {score:.4f}")
        if score >= best_score:
            best_score, best_preds = score, preds
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
    gc.collect()
    return val_idx, best_preds, best_state


def main():
    seed_everything(CFG.seed)
    rng = np.random.default_rng(CFG.seed)
    X = rng.standard_normal((150, CFG.n_features)).astype("float32")
    y = (X[:, 0] - X[:, 3] > 0).astype("float32")
    X_test = rng.standard_normal((20, CFG.n_features)).astype("float32")
    folds = np.arange(len(X)) % CFG.n_fold
    oof, states = np.zeros(len(X)), []
    for fold in range(CFG.n_fold):
        if fold in CFG.trn_fold:
            val_idx, preds, state = train_loop(X, y, folds, fold)
            oof[val_idx] = preds
            states.append(state)
    done = np.isin(folds, CFG.trn_fold)
    print("CV", get_score(y[done], oof[done]))
    model = TabularModel(CFG)
    test_loader = DataLoader(TestDataset(X_test), batch_size=8, shuffle=False)
    predictions = inference(model, states, test_loader, device)
    print(predictions[:3])


if __name__ == "__main__":
    main()
