"""Backhand: backprop by hand, proven against autodiff, and faster than it.

The package is called ``backhand`` where it is installed, and ``pipeline`` in a checkout.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backprop import attach, value_and_grad

__all__ = ["attach", "value_and_grad"]


def __getattr__(name: str) -> Any:
    """Imports what is exported when it is first used, so that parts of the package can be imported without the rest."""
    if name in __all__:
        from . import backprop

        return getattr(backprop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
