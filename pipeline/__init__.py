"""Backhand: backprop by hand, proven against autodiff, and faster than it.

The package is called ``backhand`` where it is installed, and ``pipeline`` in a checkout.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attachment import attach
    from .backprop import value_and_grad

__all__ = ["attach", "value_and_grad"]

_MODULES = {"attach": "attachment", "value_and_grad": "backprop"}


def __getattr__(name: str) -> Any:
    """Imports what is exported when it is first used, so that parts of the package can be imported without the rest."""
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
