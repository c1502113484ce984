"""The flow engine: which object is in which state when this call runs. Knows no libcst."""

from trainlint.flow.analyse import Analysis, analyse

__all__ = ["Analysis", "analyse"]
