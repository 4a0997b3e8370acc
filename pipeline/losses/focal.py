"""The focal loss: cross entropy that down-weights easy examples."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..layers.base import Context
from .base import Targets
from .cross_entropy import LabelLoss


@dataclass(frozen=True)
class Focal(LabelLoss):
    """The mean of -alpha_t (1 - p_t)^gamma log p_t, with p = softmax(z) and t a row's label (Lin et al. 2017).

    gamma: how strongly rows that are classified well are down-weighted; 0 is ``SoftmaxCrossEntropy``.
    alpha: a factor for each class; empty: all 1. The mean does not divide by these factors, as it does by weights.

    >>> x = jnp.array([[0.0, 0.0], [4.0, 0.0]]), Targets(jnp.array([0, 0]))
    >>> focal, cross_entropy = (Focal(gamma).apply({}, x, Context()) for gamma in (2.0, 0.0))
    >>> bool(focal < cross_entropy)
    True
    """

    gamma: float = 2.0
    alpha: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"Focal.gamma is {self.gamma}; it must be finite and not negative")
        if not all(0 <= factor < math.inf for factor in self.alpha):
            raise ValueError(f"Focal.alpha is {self.alpha}; every factor must be finite and not negative")

    def factors(self, x: tuple[Array, Targets]) -> tuple[Array, Array, Array]:
        """Logits and labels as in ``rows``, and w_b alpha_b for every row b, with normalised weights w."""
        z, labels, weights = self.rows(x)
        if not self.alpha:
            return z, labels, weights
        if len(self.alpha) != z.shape[-1]:
            raise ValueError(f"Focal.alpha has {len(self.alpha)} factors for {z.shape[-1]} classes")
        return z, labels, weights * jnp.asarray(self.alpha, weights.dtype)[labels]

    def focus(self, log_p: Float[Array, "*rows"]) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
        """u = 1 - p without loss of digits, and u^gamma, with derivative 0 at u = 0 for every gamma."""
        u = -jnp.expm1(log_p)
        # The inner where avoids the derivative of the power at 0, which is infinite for gamma below 1.
        at_zero = 0.0 if self.gamma else 1.0
        return u, jnp.where(u > 0, jnp.where(u > 0, u, 1.0) ** self.gamma, at_zero)

    def apply(
        self, params: dict, x: tuple[Float[Array, "*rows classes"], Targets], context: Context
    ) -> Float[Array, ""]:
        del params, context
        logits, targets = x
        z, labels, factors = self.factors((logits, lax.stop_gradient(targets)))
        z = z - lax.stop_gradient(z.max(-1, keepdims=True))
        log_p = jnp.take_along_axis(z, labels[..., None], -1)[..., 0] - jnp.log(jnp.exp(z).sum(-1))
        _, focus = self.focus(log_p)
        return -(factors * focus * log_p).sum()

    def forward(
        self, params: dict, x: tuple[Float[Array, "*rows classes"], Targets], context: Context
    ) -> tuple[Float[Array, ""], Any]:
        del params, context
        z, labels, factors = self.factors(x)
        largest = z.max(-1)
        log_sum = jnp.log(jnp.exp(z - largest[..., None]).sum(-1))
        log_p = jnp.take_along_axis(z, labels[..., None], -1)[..., 0] - largest - log_sum
        _, focus = self.focus(log_p)
        return -(factors * focus * log_p).sum(), (x, largest, log_sum, log_p)

    def backward(
        self, params: dict, residuals: Any, d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Float[Array, "*rows classes"], None]]:
        """For a row b of label t, let l = log p_t and u = 1 - p_t = 1 - exp(l), so that du/dl = -p_t. From
        y = -sum_b f_b u_b^gamma l_b, with f_b = w_b alpha_b and normalised weights w:

        (1) p_bk   = exp(z_bk - m_b - log_sum_b)
        (2) dy/dl  = -f (u^gamma - gamma u^(gamma - 1) p_t l) = -f u^gamma (1 - gamma p_t l / u)
        (3) dl/dz_k = [k = t] - p_k
        (4) d_z_bk = f_b u_b^gamma (1 - gamma p_t l_b / u_b) (p_bk - [k = t]) d_y

        which is the gradient of the cross entropy times one number per row. At u = 0, l is 0 too, and l / u, whose
        limit is -1, is set to 0, so that nothing is divided by 0: u^gamma is 0 there unless gamma is 0.

        The residuals are the logits, which are the model's output, and three numbers per row: m and log_sum, as in
        ``SoftmaxCrossEntropy``, and l, which spares gathering it again.
        """
        del params
        x, largest, log_sum, log_p = residuals
        z, labels, factors = self.factors(x)
        p = jnp.exp(z - largest[..., None] - log_sum[..., None])  # (1)
        u, focus = self.focus(log_p)
        ratio = log_p / jnp.where(u > 0, u, 1.0)
        slope = factors * focus * (1 - self.gamma * jnp.exp(log_p) * ratio) * d_y  # (2)
        classes = jnp.arange(z.shape[-1], dtype=labels.dtype).reshape((1,) * labels.ndim + (-1,))
        d_z = slope[..., None] * jnp.where(labels[..., None] == classes, p - 1, p)  # (3), (4)
        return {}, (d_z.astype(x[0].dtype), None)
