"""TL0: the checking itself. No event raises these; the road of a file does."""
