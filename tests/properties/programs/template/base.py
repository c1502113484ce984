"""What all trainers share: epochs, the monitored metric, checkpoints."""
import os
from abc import abstractmethod

import torch
from numpy import inf


class BaseTrainer:
    def __init__(self, model, criterion, metric_ftns, optimizer, config):
        self.config = config
        self.logger = config.get_logger()
        self.model = model
        self.criterion = criterion
        self.metric_ftns = metric_ftns
        self.optimizer = optimizer
        cfg_trainer = config["trainer"]
        self.epochs = cfg_trainer["epochs"]
        self.save_period = cfg_trainer["save_period"]
        self.mnt_mode, self.mnt_metric = cfg_trainer["monitor"].split()
        self.mnt_best = inf if self.mnt_mode == "min" else -inf
        self.early_stop = cfg_trainer.get("early_stop", inf)
        self.start_epoch = 1
        self.checkpoint_dir = config.save_dir
        if config.resume is not None:
            self._resume_checkpoint(config.resume)

    @abstractmethod
    def _train_epoch(self, epoch):
        raise NotImplementedError

    def train(self):
        not_improved_count = 0
        for epoch in range(self.start_epoch, self.epochs + 1):
            result = self._train_epoch(epoch)
            log = {"epoch": epoch}
            log.update(result)
            for key, value in log.items():
                self.logger(f"    {key:15s}: {value}")
            best = False
            if self.mnt_mode != "off":
                if self.mnt_mode == "min":
                    improved = log[self.mnt_metric] <= self.mnt_best
                else:
                    improved = log[self.mnt_metric] >= self.mnt_best
                if improved:
                    self.mnt_best = log[self.mnt_metric]
                    not_improved_count = 0
                    best = True
                else:
                    not_improved_count += 1
                if not_improved_count > self.early_stop:
                    break
            if epoch % self.save_period == 0:
                self._save_checkpoint(epoch, save_best=best)

    def _save_checkpoint(self, epoch, save_best=False):
        state = {
            "arch": type(self.model).__name__,
            "epoch": epoch,
            "state_dict": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "monitor_best": self.mnt_best,
        }
        torch.save(state, os.path.join(self.checkpoint_dir, f"checkpoint-epoch{epoch}.pth"))
        if save_best:
            torch.save(state, os.path.join(self.checkpoint_dir, "model_best.pth"))

    def _resume_checkpoint(self, path):
        checkpoint = torch.load(path)
        self.start_epoch = checkpoint["epoch"] + 1
        self.mnt_best = checkpoint["monitor_best"]
        self.model.load_state_dict(checkpoint["state_dict"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
