"""Rules about gradients and the optimizer step."""
