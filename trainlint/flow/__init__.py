"""The flow engine: which object is in which state when this call runs. Knows no libcst."""
