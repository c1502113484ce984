import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)


def encode(texts, tokenizer):
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")


def evaluate(model, loader, device):
    model.eval()
    correct = total = 0
    for batch in loader:
        batch = {k: v.to(device) for k, v in batch.items()}
        with torch.no_grad():
            outputs = model(**batch)
        predictions = outputs.logits.argmax(dim=-1)
        correct += (predictions == batch["labels"]).sum().item()
        total += len(predictions)
    return correct / total


def main(train_set, eval_set):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = "bert-base-uncased"
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
    model.to(device)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=8)
    eval_loader = DataLoader(eval_set, batch_size=8)
    optimizer = AdamW(model.parameters(), lr=5e-5)
    epochs = 3
    steps = epochs * len(train_loader)
    scheduler = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=100, num_training_steps=steps
    )
    for epoch in range(epochs):
        model.train()
        for batch in train_loader:
            batch = {k: v.to(device) for k, v in batch.items()}
            outputs = model(**batch)
            loss = outputs.loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        print(epoch, evaluate(model, eval_loader, device))
    model.save_pretrained("out")
    tokenizer.save_pretrained("out")
