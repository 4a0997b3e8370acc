"""Linear layers: Dense and Scale."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .base import Context, Layer, reduction_dtype
from .initializers import Initializer, lecun_normal


@dataclass(frozen=True)
class Dense(Layer):
    """y = x W + b over the last axis.

    Parameters: kernel W (in, features); bias b (features,), unless ``use_bias`` is False.

    >>> layer, x = Dense(2), jnp.array([[1.0, 2.0, 3.0]])
    >>> params = layer.init(jax.random.key(0), x)
    >>> params["kernel"].shape, layer.apply(params, x, Context()).shape
    ((3, 2), (1, 2))
    """

    examplewise: ClassVar[bool] = True

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
        """From y_nj = sum_i x_ni W_ij + b_j, where n runs over all leading axes:

        (1) d_W_ij = sum_n x_ni d_y_nj      d_W = x^T d_y
        (2) d_b_j  = sum_n d_y_nj           b is added to every row, so its cotangent is the sum over rows
        (3) d_x_ni = sum_j d_y_nj W_ij      d_x = d_y W^T

        The residual is x, needed in (1). It is the previous layer's output, so it takes no new memory. The sums over n
        are accumulated in float32 (float64) and returned in the dtype of the parameters.
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
    """y = factor x, with a fixed factor, such as the 1/2 of half-step residual branches (Lu et al. 2019)."""

    examplewise: ClassVar[bool] = True

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
        """(1) d_x = factor d_y. There is no residual."""
        del params, residuals
        return {}, self.factor * d_y  # (1)
