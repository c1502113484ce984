"""trainlint: the linter for training code.

Importing this package imports neither torch nor libcst; `trainlint.runtime` needs torch and is
imported on its own.
"""

__version__ = "0.1.0"
