"""Correct rules, as authors elsewhere write them, of functions by other libraries: none of them may be accused.

They were derived from the mathematics. In float64 each agrees with ``jax.vjp`` to about 1e-12.
"""

from .kinds import Right
from .right_algebra import ALGEBRA
from .right_arrays import ARRAYS, SATURATED
from .right_custom import CUSTOM
from .right_elementwise import ELEMENTWISE
from .right_gradients import GRADIENTS
from .right_losses import LOSSES
from .right_networks import NETWORKS, ROUNDED

RIGHT: tuple[Right, ...] = (*ELEMENTWISE, *LOSSES, *ARRAYS, *ALGEBRA, *NETWORKS, *CUSTOM, *GRADIENTS)

ILL_CONDITIONED: tuple[Right, ...] = (*SATURATED, *ROUNDED)
"""Right as well, but in float64 further from ``jax.vjp`` than 1e-11: no rule could be nearer."""

__all__ = ["ILL_CONDITIONED", "RIGHT", "Right"]
