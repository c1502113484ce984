"""Functions of libraries that run a network that they are handed, as their manuals document them.

MONAI's inferers call the predictor on windows of the input, torchdiffeq's solvers call the
dynamics at points in time, `data_parallel` is the function behind `DataParallel`. None of them
changes modes or gradients.
"""

from trainlint.libraries.spec import Role, Runs, Spec, Table

_WINDOWS = Runs("predictor", 3)
_DYNAMICS = Runs("func", 0)
_INFERER = Role("inferer")

_CALLS: dict[str, Spec] = {
    **dict.fromkeys(
        (
            "monai.inferers.sliding_window_inference",
            "monai.inferers.utils.sliding_window_inference",
        ),
        _WINDOWS,
    ),
    **{f"monai.inferers.{name}": _INFERER for name in ("SimpleInferer", "SlidingWindowInferer")},
    **{f"torchdiffeq.{name}": _DYNAMICS for name in ("odeint", "odeint_adjoint")},
    "torch.nn.parallel.data_parallel": Runs("module", 0),
}

RUNNERS = Table(calls=_CALLS)
