"""Verdicts on one observed state: what is wrong with a model, its adapters, its optimizers now.

Pure functions of an `Observation`. When a verdict is asked for, and what came before, is the
business of `look` and of `watching`. Each cause is one verdict: what merely follows from it is
left out (`causes`).
"""
