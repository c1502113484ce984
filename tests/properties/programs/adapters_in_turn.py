"""Two adapters on one base, trained one after the other, saved, loaded again and merged."""
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Backbone(nn.Module):
    def __init__(self, width=24, classes=3):
        super().__init__()
        self.embed = nn.Linear(6, width)
        self.lin1 = nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)
        self.lin2 = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = torch.relu(self.embed(x))
        x = self.drop(torch.relu(self.lin1(x)))
        return self.head(torch.relu(self.lin2(x)))


def task(seed, n=96):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=g)
    w = torch.randn(6, 3, generator=g)
    y = (x @ w).argmax(1)
    cut = n * 2 // 3
    train = DataLoader(TensorDataset(x[:cut], y[:cut]), batch_size=16, shuffle=True)
    return train, DataLoader(TensorDataset(x[cut:], y[cut:]), batch_size=32)


def pretrain(base, loader, epochs=3):
    opt = torch.optim.Adam(base.parameters(), lr=5e-3)
    base.train()
    for _ in range(epochs):
        for xb, yb in loader:
            opt.zero_grad()
            nn.functional.cross_entropy(base(xb), yb).backward()
            opt.step()


def fit(model, loader, valid, epochs=2, lr=1e-2):
    trainable = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trainable, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=epochs)
    for epoch in range(epochs):
        model.train()
        for xb, yb in loader:
            loss = nn.functional.cross_entropy(model(xb), yb)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            opt.step()
            opt.zero_grad()
        schedule.step()
        print(f"  epoch {epoch} accuracy {accuracy(model, valid):.3f}")


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return hits / len(loader.dataset)


def lora(rank):
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=["lin1", "lin2"],
        lora_dropout=0.05,
        modules_to_save=["head"],
    )


def main():
    torch.manual_seed(0)
    general, _ = task(0)
    first_train, first_valid = task(1)
    second_train, second_valid = task(2)

    base = Backbone()
    pretrain(base, general)
    model = get_peft_model(base, lora(4), adapter_name="first")
    model.print_trainable_parameters()
    print("first")
    fit(model, first_train, first_valid)

    model.add_adapter("second", lora(8))
    model.set_adapter("second")
    print("second")
    fit(model, second_train, second_valid)

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, selected_adapters=["second"])
        again = Backbone()
        again.load_state_dict(base_weights(model))
        tuned = PeftModel.from_pretrained(again, f"{folder}/second", is_trainable=True)
        print("second, further")
        fit(tuned, second_train, second_valid, epochs=1, lr=1e-3)

    with model.disable_adapter():
        print("without", accuracy(model, second_valid))
    merged = tuned.merge_and_unload()
    print("merged", accuracy(merged, second_valid))


def base_weights(model):
    plain = {}
    for name, value in model.get_base_model().state_dict().items():
        if "lora_" in name or "modules_to_save" in name:
            continue
        plain[name.replace(".base_layer", "").replace(".original_module", "")] = value
    return plain


if __name__ == "__main__":
    main()
