"""Rules about PEFT adapters."""
