"""The decoder's steps in C (`native/`): twins of the NumPy functions that call them, three to five times as fast.

They are built where limbnet is installed with a C compiler at hand. Without them limbnet decodes with NumPy, to the
same people, and says so.
"""

from __future__ import annotations

try:
    from limbnet.decode import _native as native
except ImportError:
    in_use = False
else:
    in_use = True

__all__ = ["described", "in_use", "native"]


def described() -> str:
    """Say what decodes on the host, in a few words."""
    if in_use:
        return "compiled"
    return "NumPy (slower; limbnet was installed where its C part could not be compiled)"
