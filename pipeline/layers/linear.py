"""The affine map."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pipeline.layers.base import Context, Layer, reduction_dtype
from pipeline.layers.initializers import Initializer, lecun_normal


@dataclass(frozen=True)
class Dense(Layer):
    """y = x W + b over the last axis.

    Parameters: kernel (in, features); bias (features,), unless ``use_bias`` is False.
    """

    features: int
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*batch inputs"]) -> dict[str, Array]:
        params = {"kernel": self.kernel_init(key, (x.shape[-1], self.features), jnp.float32)}
        return params | {"bias": jnp.zeros(self.features, jnp.float32)} if self.use_bias else params

    def apply(
        self, params: dict[str, Array], x: Float[Array, "*batch inputs"], context: Context
    ) -> Float[Array, "*batch features"]:
        del context
        y = jnp.tensordot(x, params["kernel"].astype(x.dtype), 1)
        if self.use_bias:
            y += jnp.broadcast_to(params["bias"].astype(x.dtype), y.shape)
        return y

    def forward(
        self, params: dict[str, Array], x: Float[Array, "*batch inputs"], context: Context
    ) -> tuple[Float[Array, "*batch features"], Float[Array, "*batch inputs"]]:
        return self.apply(params, x, context), x

    def backward(
        self, params: dict[str, Array], residuals: Float[Array, "*batch inputs"], d_y: Float[Array, "*batch features"]
    ) -> tuple[dict[str, Array], Float[Array, "*batch inputs"]]:
        """From y_bj = sum_i x_bi W_ij + b_j, with b running over all leading axes:

        (1) dL/dW_ij = sum_b x_bi dL/dy_bj      d_W = x^T d_y
        (2) dL/db_j  = sum_b dL/dy_bj           b is broadcast over b, so its cotangent is summed over b
        (3) dL/dx_bi = sum_j dL/dy_bj W_ij      d_x = d_y W^T

        The residual is x, needed in (1); it is the previous layer's output, so nothing new is kept. Both sums over the
        batch accumulate in float32 (float64) and come out in the parameters' dtype.
        """
        x, kernel = residuals, params["kernel"]
        sums = reduction_dtype(x.dtype)
        rows, d_rows = x.reshape(-1, x.shape[-1]), d_y.reshape(-1, self.features)
        d_kernel = jnp.matmul(rows.T, d_rows, preferred_element_type=sums)  # (1)
        d_params = {"kernel": d_kernel.astype(kernel.dtype)}
        if self.use_bias:
            d_params["bias"] = d_rows.sum(0, dtype=sums).astype(params["bias"].dtype)  # (2)
        d_x = jnp.matmul(d_rows, kernel.astype(x.dtype).T)  # (3)
        return d_params, d_x.reshape(x.shape)


@dataclass(frozen=True)
class Scale(Layer):
    """y = factor x, with a factor that nobody learns: a half-step of a residual path (Lu et al. 2019)."""

    factor: float

    def init(self, key: Any, x: Float[Array | jax.ShapeDtypeStruct, "*shape"]) -> dict:
        del key, x
        return {}

    def apply(self, params: dict, x: Float[Array, "*shape"], context: Context) -> Float[Array, "*shape"]:
        del params, context
        return self.factor * x

    def forward(
        self, params: dict, x: Float[Array, "*shape"], context: Context
    ) -> tuple[Float[Array, "*shape"], tuple[()]]:
        return self.apply(params, x, context), ()

    def backward(
        self, params: dict, residuals: tuple[()], d_y: Float[Array, "*shape"]
    ) -> tuple[dict, Float[Array, "*shape"]]:
        """(1) d_x = factor d_y. It asks nothing of x: there is no residual."""
        del params, residuals
        return {}, self.factor * d_y  # (1)
