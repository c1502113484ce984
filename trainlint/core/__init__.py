"""What both halves of trainlint share: facts, events, rules and diagnostics. Pure Python."""
