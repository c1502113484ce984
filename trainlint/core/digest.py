"""BLAKE2 without what `hashlib` imports along with it (OpenSSL), which the warm path would feel."""

try:
    from _blake2 import blake2b
except ImportError:  # another Python than CPython
    from hashlib import blake2b

__all__ = ["blake2b"]
