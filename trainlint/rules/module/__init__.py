"""Rules about how modules are defined."""
