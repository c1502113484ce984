"""Cross-validation: each fold has its own model, optimizer, schedule and early stop."""

import torch
import torch.nn as nn
import torch.optim as optim
from torch.utils.data import DataLoader, Subset, TensorDataset


class TabularNet(nn.Module):
    def __init__(self, features, p=0.3):
        super().__init__()
        self.fc1 = nn.Linear(features, 32)
        self.bn1 = nn.BatchNorm1d(32)
        self.dropout = nn.Dropout(p)
        self.fc2 = nn.Linear(32, 1)

    def forward(self, x):
        x = torch.relu(self.bn1(self.fc1(x)))
        return self.fc2(self.dropout(x)).view(-1)


class EarlyStopping:
    def __init__(self, patience=2):
        self.patience = patience
        self.best = float("inf")
        self.bad = 0

    def __call__(self, value):
        if value < self.best:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        return self.bad > self.patience


def train_fn(loader, model, optimizer, criterion, device):
    model.train()
    running = 0.0
    for features, target in loader:
        features, target = features.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(features)
        loss = criterion(output, target)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(target)
    return running / len(loader.dataset)


def valid_fn(loader, model, criterion, device):
    model.eval()
    running = 0.0
    preds = []
    for features, target in loader:
        features, target = features.to(device), target.to(device)
        with torch.no_grad():
            output = model(features)
        loss = criterion(output, target)
        running += loss.item() * len(target)
        preds.append(output.sigmoid().cpu())
    return running / len(loader.dataset), torch.cat(preds)


def run_fold(data, train_index, valid_index, epochs=4):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader = DataLoader(Subset(data, train_index), batch_size=16, shuffle=True)
    valid_loader = DataLoader(Subset(data, valid_index), batch_size=32)
    model = TabularNet(6).to(device)
    optimizer = optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-5)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    criterion = nn.BCEWithLogitsLoss()
    stopper = EarlyStopping()
    best_state, best_loss, oof = None, float("inf"), None
    for epoch in range(epochs):
        train_loss = train_fn(train_loader, model, optimizer, criterion, device)
        valid_loss, preds = valid_fn(valid_loader, model, criterion, device)
        scheduler.step(valid_loss)
        if valid_loss < best_loss:
            best_loss, oof = valid_loss, preds
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
        print(f"epoch {epoch}: {train_loss:.3f} {valid_loss:.3f}")
        if stopper(valid_loss):
            break
    model.load_state_dict(best_state)
    return model, oof


def main(folds=3):
    x = torch.randn(90, 6)
    y = (x.sum(1) > 0).float()
    data = TensorDataset(x, y)
    order = torch.randperm(90).tolist()
    for fold in range(folds):
        valid_index = order[fold::folds]
        train_index = [i for i in order if i not in set(valid_index)]
        run_fold(data, train_index, valid_index)


main()
