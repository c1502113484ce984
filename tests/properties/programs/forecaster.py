"""An estimator with fit, predict and score around a recurrent net; its scaler scales data."""
import copy
import logging

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger(__name__)


class StandardScaler:
    def fit(self, values):
        self.mean, self.std = values.mean(), values.std() + 1e-8
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse_transform(self, values):
        return values * self.std + self.mean


class Windows(Dataset):
    def __init__(self, series, length, horizon):
        self.series = torch.as_tensor(series, dtype=torch.float32)
        self.length, self.horizon = length, horizon

    def __len__(self):
        return len(self.series) - self.length - self.horizon + 1

    def __getitem__(self, i):
        x = self.series[i : i + self.length].unsqueeze(-1)
        y = self.series[i + self.length : i + self.length + self.horizon]
        return x, y


class GRUNet(nn.Module):
    def __init__(self, hidden_size, horizon, dropout):
        super().__init__()
        self.rnn = nn.GRU(1, hidden_size, num_layers=2, dropout=dropout, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(hidden_size, horizon)

    def forward(self, x):
        _, h = self.rnn(x)
        return self.out(self.drop(h[-1]))


class EarlyStopping:
    def __init__(self, patience=3, min_delta=0.0):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.bad, self.state = float("inf"), 0, None

    def __call__(self, value, model):
        if value < self.best - self.min_delta:
            self.best, self.bad = value, 0
            self.state = copy.deepcopy(model.state_dict())
            return False
        self.bad += 1
        return self.bad >= self.patience


class Forecaster:
    def __init__(self, length=12, horizon=3, hidden_size=16, dropout=0.2, lr=1e-2, epochs=4):
        self.length, self.horizon = length, horizon
        self.hidden_size, self.dropout = hidden_size, dropout
        self.lr, self.epochs = lr, epochs
        self.scaler = StandardScaler()
        self.model_ = None
        self.history_ = []

    def _loader(self, series, shuffle):
        return DataLoader(Windows(series, self.length, self.horizon), 16, shuffle=shuffle)

    def fit(self, series, valid):
        series = self.scaler.fit(series).transform(series)
        train_dl = self._loader(series, True)
        valid_dl = self._loader(self.scaler.transform(valid), False)
        self.model_ = GRUNet(self.hidden_size, self.horizon, self.dropout)
        self.criterion_ = nn.SmoothL1Loss()
        self.optimizer_ = torch.optim.Adam(self.model_.parameters(), lr=self.lr)
        plateau = ReduceLROnPlateau(self.optimizer_, factor=0.5, patience=1)
        stopper = EarlyStopping()
        for epoch in range(self.epochs):
            train_loss = self._run_epoch(train_dl)
            valid_loss = self._validate(valid_dl)
            plateau.step(valid_loss)
            self.history_.append((train_loss, valid_loss))
            logger.info("epoch %d train %.4f valid %.4f", epoch, train_loss, valid_loss)
            if stopper(valid_loss, self.model_):
                logger.info("stopped at %d", epoch)
                break
        if stopper.state is not None:
            self.model_.load_state_dict(stopper.state)
        return self

    def _run_epoch(self, loader):
        self.model_.train()
        total = 0.0
        for x, y in loader:
            self.optimizer_.zero_grad()
            pred = self.model_(x)
            loss = self.criterion_(pred, y)
            loss.backward()
            nn.utils.clip_grad_value_(self.model_.parameters(), 0.5)
            self.optimizer_.step()
            total += loss.detach() * len(x)
        return float(total) / len(loader.dataset)

    def _validate(self, loader):
        self.model_.eval()
        losses = []
        with torch.inference_mode():
            for x, y in loader:
                losses.append(self.criterion_(self.model_(x), y).item())
        return float(np.mean(losses))

    def predict(self, series):
        if self.model_ is None:
            raise RuntimeError("not fitted")
        values = self.scaler.transform(np.asarray(series))[-self.length :]
        x = torch.as_tensor(values, dtype=torch.float32).view(1, -1, 1)
        self.model_.eval()
        with torch.no_grad():
            out = self.model_(x).squeeze(0).numpy()
        return self.scaler.inverse_transform(out)

    def score(self, series):
        losses = []
        for start in range(0, len(series) - self.length - self.horizon, self.horizon):
            pred = self.predict(series[start : start + self.length])
            truth = series[start + self.length : start + self.length + self.horizon]
            losses.append(np.abs(pred - truth).mean())
        return -float(np.mean(losses))


def make_series(n, rng):
    t = np.arange(n)
    return np.sin(t / 6) + 0.3 * np.sin(t / 17) + 0.1 * rng.standard_normal(n)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    data = make_series(260, rng)
    best = None
    for hidden in (8, 16):
        forecaster = Forecaster(hidden_size=hidden).fit(data[:160], data[160:210])
        mae = -forecaster.score(data[210:])
        print(hidden, round(mae, 4))
        if best is None or mae < best[0]:
            best = (mae, forecaster)
    print("next", best[1].predict(data))
