"""A template: what is built comes from a dict of names and arguments."""
import tempfile

import parts
import torch
from trainer import Trainer

CONFIG = {
    "arch": {"type": "DigitModel", "args": {}},
    "data_loader": {"type": "SplitLoader", "args": {"batch_size": 16, "validation_split": 0.2}},
    "optimizer": {"type": "Adam", "args": {"lr": 0.003, "weight_decay": 0, "amsgrad": True}},
    "loss": "nll_loss",
    "metrics": ["accuracy", "top_k_acc"],
    "lr_scheduler": {"type": "StepLR", "args": {"step_size": 50, "gamma": 0.1}},
    "trainer": {"epochs": 3, "save_period": 1, "monitor": "min val_loss", "early_stop": 10},
}


class ConfigParser:
    def __init__(self, config, save_dir, resume=None):
        self._config, self.save_dir, self.resume = config, save_dir, resume

    def init_obj(self, name, module, *args, **kwargs):
        module_name = self[name]["type"]
        module_args = dict(self[name]["args"])
        module_args.update(kwargs)
        return getattr(module, module_name)(*args, **module_args)

    def __getitem__(self, name):
        return self._config[name]

    def get_logger(self):
        return print


def main(config):
    torch.manual_seed(123)
    data_loader = config.init_obj("data_loader", parts)
    valid_data_loader = data_loader.split_validation()
    model = config.init_obj("arch", parts)
    print(model)
    device = torch.device("cpu")
    model = model.to(device)
    criterion = getattr(parts, config["loss"])
    metrics = [getattr(parts, met) for met in config["metrics"]]
    trainable_params = filter(lambda p: p.requires_grad, model.parameters())
    optimizer = config.init_obj("optimizer", torch.optim, trainable_params)
    lr_scheduler = config.init_obj("lr_scheduler", torch.optim.lr_scheduler, optimizer)
    trainer = Trainer(
        model,
        criterion,
        metrics,
        optimizer,
        config=config,
        device=device,
        data_loader=data_loader,
        valid_data_loader=valid_data_loader,
        lr_scheduler=lr_scheduler,
    )
    trainer.train()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(ConfigParser(CONFIG, folder))
