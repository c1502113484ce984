"""Rules about optimizers and about which parameters are frozen."""
