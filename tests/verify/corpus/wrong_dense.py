"""Wrong rules of products with matrices: dense layers, broadcasts, shared weights, paths around a branch."""

import jax
import jax.numpy as jnp
import numpy as np

from .kinds import Draw
from .registry import Family, Mistake, Rule


def dense(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)
    square = ("kernel transposed", "input by kernel untransposed", "bias over features", "input and kernel swapped")
    rows, inputs, outputs = (size, size, size) if mistake in square else (size + size % 2 + 1, size + 1, size + 3)

    def function(x, kernel, bias):
        return x @ kernel + bias

    def forward(x, kernel, bias):
        y = x @ kernel if mistake == "forward without bias" else function(x, kernel, bias)
        return y, (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        d_x, d_kernel, d_bias = d_y @ kernel.T, x.T @ d_y, d_y.sum(0)
        match mistake:
            case "kernel transposed":
                d_kernel = d_y.T @ x
            case "kernel in the shape of its transpose":
                d_kernel = d_y.T @ x
            case "input by kernel untransposed":
                d_x = d_y @ kernel
            case "bias averaged":
                d_bias = d_y.mean(0)
            case "bias not summed":
                d_bias = d_y
            case "bias without the last row":
                d_bias = d_y[:-1].sum(0)
            case "bias from the first row":
                d_bias = d_y[0]
            case "bias over features":
                d_bias = d_y.sum(1)
            case "bias kept as a row":
                d_bias = d_y.sum(0, keepdims=True)
            case "kernel negated":
                d_kernel = -d_kernel
            case "kernel averaged":
                d_kernel = d_kernel / x.shape[0]
            case "kernel by pairs of rows":
                whole = x.shape[0] // 2 * 2  # the remainder of the last tile is forgotten
                d_kernel = x[:whole].T @ d_y[:whole]
            case "kernel without the last input":
                d_kernel = d_kernel.at[-1].set(0.0)
            case "one element of the kernel":
                d_kernel = d_kernel.at[1, 2].multiply(1.5)
            case "input forgotten":
                d_x = jnp.zeros_like(x)
            case "input and kernel swapped":
                d_x, d_kernel = d_kernel, d_x
            case "ones for the incoming gradient":
                d_bias = jnp.full_like(d_bias, x.shape[0])
            case "kernel not from x":
                d_kernel = jnp.ones_like(x).T @ d_y
        return d_x, d_kernel, d_bias

    return Rule(
        function, forward, backward, (draw.normal(rows, inputs), draw.normal(inputs, outputs), draw.normal(outputs))
    )


DENSE = Family(
    "dense",
    dense,
    (
        Mistake("kernel transposed", "dW = dy^T x", "transposed", "kernel"),
        Mistake("kernel in the shape of its transpose", "dW = dy^T x", "transposed, shape", "kernel"),
        Mistake("input by kernel untransposed", "dx = dy W", "transposed", "x"),
        Mistake("bias averaged", "db averaged", "factor", "bias"),
        Mistake("bias not summed", "a broadcast axis not summed", "missing sum", "bias", says=("axis 0",)),
        Mistake("bias without the last row", "last row dropped", "region", "bias", says=("last",)),
        Mistake("bias from the first row", "db summed over too few", "region, missing sum", "bias"),
        Mistake("bias over features", "db summed over the wrong axes", "transposed, extra sum, missing sum", "bias"),
        Mistake("bias kept as a row", "wrong shape", "shape", "bias"),
        Mistake("kernel negated", "sign", "sign", "kernel"),
        Mistake("kernel averaged", "1/N too many", "factor", "kernel"),
        Mistake("kernel by pairs of rows", "odd tile sizes", "region", "kernel", says=("last",)),
        Mistake("kernel without the last input", "last row dropped", "region", "kernel", says=("last",)),
        Mistake("one element of the kernel", "a single element", "region", "kernel"),
        Mistake("input forgotten", "gradient lost", "missing", "x"),
        Mistake("input and kernel swapped", "two leaves swapped", "swapped", "x", "kernel"),
        Mistake("ones for the incoming gradient", "incoming gradient ignored", "cotangent ignored", "bias"),
        Mistake("kernel not from x", "a factor forgotten", "missing factor", "kernel"),
        Mistake("forward without bias", "wrong forward value", "value", "y"),
    ),
)


def perceptron(size: int, seed: int, mistake: str) -> Rule:
    """Two layers over a tree of parameters; square throughout, so that no shape gives a mistake away."""
    draw = Draw(seed)

    def function(params, x):
        hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        return hidden @ params["out"]["kernel"] + params["out"]["bias"]

    def forward(params, x):
        hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        return hidden @ params["out"]["kernel"] + params["out"]["bias"], (params, x, hidden)

    def backward(residuals, d_y):
        params, x, hidden = residuals
        out = {"kernel": hidden.T @ d_y, "bias": d_y.sum(0)}
        d_hidden = d_y @ params["out"]["kernel"].T
        if mistake == "output kernel untransposed":
            d_hidden = d_y @ params["out"]["kernel"]
        slope = 1 - jnp.square(hidden)
        if mistake == "slope of the activation forgotten":
            slope = 1.0
        if mistake == "slope from the input of tanh":
            slope = 1 - jnp.square(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        d_inner = d_hidden * slope
        inner = {"kernel": x.T @ d_inner, "bias": d_inner.sum(0)}
        d_x = d_inner @ params["hidden"]["kernel"].T
        match mistake:
            case "output kernel from the input":
                out["kernel"] = x.T @ d_y
            case "kernels swapped":
                inner["kernel"], out["kernel"] = out["kernel"], inner["kernel"]
            case "hidden bias before the activation":
                inner["bias"] = d_hidden.sum(0)
            case "input through the other kernel":
                d_x = d_inner @ params["out"]["kernel"].T
            case "hidden bias given the output's":
                inner["bias"] = out["bias"]
        return {"hidden": inner, "out": out}, d_x

    layer = lambda: {"kernel": draw.normal(size, size) / np.float32(np.sqrt(size)), "bias": draw.normal(size)}  # noqa: E731
    return Rule(function, forward, backward, ({"hidden": layer(), "out": layer()}, draw.normal(size, size)))


_INNER = "params/hidden/bias, x"
PERCEPTRON = Family(
    "perceptron",
    perceptron,
    (
        Mistake("output kernel untransposed", "dx = dy W", "transposed", "params/hidden/kernel", _INNER),
        Mistake(
            "slope of the activation forgotten",
            "a factor forgotten",
            "missing factor, missing term, other function",
            "params/hidden/kernel",
            _INNER,
        ),
        Mistake("slope from the input of tanh", "x for y", "as if, other function", "params/hidden/kernel", _INNER),
        Mistake("output kernel from the input", "another value saved", "as if", "params/out/kernel"),
        Mistake("kernels swapped", "two leaves swapped", "swapped", "params/hidden/kernel", "params/out/kernel"),
        Mistake(
            "hidden bias before the activation",
            "a factor forgotten",
            "missing factor, other function",
            "params/hidden/bias",
        ),
        Mistake("input through the other kernel", "another value saved", "as if", "x"),
        Mistake("hidden bias given the output's", "the cotangent of another leaf", "other leaf", "params/hidden/bias"),
    ),
)


def broadcast(size: int, seed: int, mistake: str) -> Rule:
    """y = x scale + shift with a scale for each feature and a shift for each position."""
    draw = Draw(seed)
    batch, time, features = (size,) * 3 if "square" in mistake else (size, size + 1, size + 2)

    def function(x, scale, shift):
        return x * scale + shift[:, None]

    def forward(x, scale, shift):
        return function(x, scale, shift), (x, scale)

    def backward(residuals, d_y):
        x, scale = residuals
        d_x, d_scale, d_shift = d_y * scale, (d_y * x).sum((0, 1)), d_y.sum((0, 2))
        match mistake:
            case "scale summed over the batch alone":
                d_scale = (d_y * x).sum(0)
            case "scale not summed":
                d_scale = d_y * x
            case "scale averaged over the batch":
                d_scale = (d_y * x).mean(0).sum(0)
            case "shift from the first position of features":
                d_shift = d_y[..., 0].sum(0)
            case "shift over the wrong axis, square":
                d_shift = d_y.sum((0, 1))
            case "shift as one number":
                d_shift = jnp.broadcast_to(d_y.sum(), d_shift.shape)
            case "scale without x":
                d_scale = d_y.sum((0, 1))
            case "input without scale":
                d_x = d_y
            case "input scaled twice":
                d_x = d_y * scale * scale
            case "input divided by scale":
                d_x = d_y / scale
        return d_x, d_scale, d_shift

    return Rule(
        function, forward, backward, (draw.normal(batch, time, features), draw.signed(features), draw.normal(time))
    )


BROADCAST = Family(
    "broadcast",
    broadcast,
    (
        Mistake("scale summed over the batch alone", "summed over too few axes", "missing sum", "scale"),
        Mistake("scale not summed", "a broadcast axis not summed", "missing sum", "scale"),
        Mistake("scale averaged over the batch", "averaged", "factor", "scale"),
        Mistake("shift from the first position of features", "summed over too few", "region, missing sum", "shift"),
        Mistake(
            "shift over the wrong axis, square",
            "summed over the wrong axes",
            "transposed, missing sum, extra sum",
            "shift",
        ),
        Mistake("shift as one number", "summed over too many axes", "extra sum", "shift"),
        Mistake("scale without x", "x forgotten", "missing factor", "scale"),
        Mistake("input without scale", "scale forgotten in dx", "missing factor", "x"),
        Mistake("input scaled twice", "scale twice", "extra factor", "x"),
        Mistake("input divided by scale", "divided for multiplied", "extra factor, missing factor", "x"),
    ),
)


def outer(size: int, seed: int, mistake: str) -> Rule:
    """A column plus a row, as in a table of distances."""
    draw = Draw(seed)
    rows, columns = size, size + 2

    def function(column, row):
        return jnp.square(column - row)

    def forward(column, row):
        return function(column, row), (column, row)

    def backward(residuals, d_y):
        column, row = residuals
        d = 2 * d_y * (column - row)
        d_column, d_row = d.sum(1, keepdims=True), -d.sum(0)
        match mistake:
            case "row with the column's sign":
                d_row = -d_row
            case "column averaged":
                d_column = d.mean(1, keepdims=True)
            case "column not summed":
                d_column = d
            case "no factor 2":
                d_row = d_row / 2
            case "last row of the column":
                d_column = d_column.at[-1].set(0.0)
        return d_column, d_row

    return Rule(function, forward, backward, (draw.normal(rows, 1), draw.normal(columns)))


OUTER = Family(
    "outer",
    outer,
    (
        Mistake("row with the column's sign", "sign", "sign", "row"),
        Mistake("column averaged", "averaged", "factor", "column"),
        Mistake("column not summed", "a broadcast axis not summed", "missing sum", "column", says=("axis 1",)),
        Mistake("no factor 2", "factor", "factor", "row"),
        Mistake("last row of the column", "last row dropped", "region", "column", says=("last",)),
    ),
)


def bilinear(size: int, seed: int, mistake: str) -> Rule:
    """Scores x_b A z_b of square A, one a pair."""
    draw = Draw(seed)

    def function(x, matrix, z):
        return jnp.einsum("bi,ij,bj->b", x, matrix, z)

    def forward(x, matrix, z):
        return function(x, matrix, z), (x, matrix, z)

    def backward(residuals, d_y):
        x, matrix, z = residuals
        weighted = d_y[:, None] * x
        d_x, d_matrix, d_z = d_y[:, None] * (z @ matrix.T), weighted.T @ z, weighted @ matrix
        match mistake:
            case "matrix transposed for x":
                d_x = d_y[:, None] * (z @ matrix)
            case "matrix transposed for z":
                d_z = weighted @ matrix.T
            case "gradient of the matrix transposed":
                d_matrix = z.T @ weighted
            case "matrix symmetrised":
                d_matrix = (d_matrix + d_matrix.T) / 2
            case "matrix without incoming gradient":
                d_matrix = x.T @ z
            case "matrix's upper triangle":
                d_matrix = jnp.triu(d_matrix)
            case "x from x":
                d_x = d_y[:, None] * (x @ matrix.T)
        return d_x, d_matrix, d_z

    arguments = draw.normal(size, size), draw.normal(size, size), draw.normal(size, size)
    return Rule(function, forward, backward, arguments)


BILINEAR = Family(
    "bilinear",
    bilinear,
    (
        Mistake("matrix transposed for x", "dx = dy W", "transposed", "x"),
        Mistake("matrix transposed for z", "dx = dy W^T", "transposed", "z"),
        Mistake("gradient of the matrix transposed", "dW = dy^T x", "transposed", "matrix"),
        Mistake("matrix symmetrised", "symmetrised", "transposed, as if, region, unknown", "matrix"),
        Mistake("matrix without incoming gradient", "incoming gradient ignored", "cotangent ignored", "matrix"),
        Mistake("matrix's upper triangle", "a part dropped", "region", "matrix", says=("below the diagonal",)),
        Mistake("x from x", "another value saved", "as if", "x"),
    ),
)


def tied(size: int, seed: int, mistake: str) -> Rule:
    """An autoencoder that decodes with its encoder's transposed kernel."""
    draw = Draw(seed)
    square = "second use transposed"
    rows, inputs, hidden = (size, size, size) if mistake == square else (size, size + 2, size + 1)

    def function(x, kernel):
        return jnp.tanh(x @ kernel) @ kernel.T

    def forward(x, kernel):
        h = jnp.tanh(x @ kernel)
        return h @ kernel.T, (x, kernel, h)

    def backward(residuals, d_y):
        x, kernel, h = residuals
        d_inner = (d_y @ kernel) * (1 - jnp.square(h))
        first, second = x.T @ d_inner, d_y.T @ h
        d_x, d_kernel = d_inner @ kernel.T, first + second
        match mistake:
            case "second use overwrites":
                d_kernel = second
            case "second use lost":
                d_kernel = first
            case "second use twice":
                d_kernel = first + 2 * second
            case "second use subtracted":
                d_kernel = first - second
            case "second use transposed":
                d_kernel = first + second.T
            case "mean of both uses":
                d_kernel = (first + second) / 2
        return d_x, d_kernel

    return Rule(
        function, forward, backward, (draw.normal(rows, inputs), draw.normal(inputs, hidden) / np.float32(size))
    )


TIED = Family(
    "tied weights",
    tied,
    (
        Mistake("second use overwrites", "a tied weight overwritten", "missing term", "kernel"),
        Mistake("second use lost", "a tied weight's second use lost", "missing term", "kernel"),
        Mistake("second use twice", "a term twice", "doubled term", "kernel"),
        Mistake("second use subtracted", "sign of a term", "doubled term", "kernel"),
        Mistake("second use transposed", "dW = dy^T x", "transposed", "kernel"),
        Mistake("mean of both uses", "averaged", "factor", "kernel"),
    ),
)


def residual(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)

    def function(x, kernel):
        return x + jax.nn.silu(x @ kernel)

    def forward(x, kernel):
        return function(x, kernel), (x, kernel)

    def backward(residuals, d_y):
        x, kernel = residuals
        z = x @ kernel
        gate = jax.nn.sigmoid(z)
        d_z = d_y * gate * (1 + z * (1 - gate))
        d_kernel, branch = x.T @ d_z, d_z @ kernel.T
        d_x = d_y + branch
        match mistake:
            case "skip lost":
                d_x = branch
            case "branch lost":
                d_x = d_y
            case "skip twice":
                d_x = 2 * d_y + branch
            case "skip subtracted":
                d_x = branch - d_y
            case "branch halved":
                d_x = d_y + branch / 2
            case "kernel given the skip too":
                d_kernel = d_kernel + x.T @ d_y
        return d_x, d_kernel

    return Rule(
        function, forward, backward, (draw.normal(size, size), draw.normal(size, size) / np.float32(np.sqrt(size)))
    )


RESIDUAL = Family(
    "residual",
    residual,
    (
        Mistake("skip lost", "the skip path's gradient lost", "missing term", "x"),
        Mistake("branch lost", "one path of the chain rule lost", "missing term", "x"),
        Mistake("skip twice", "a term twice", "doubled term", "x"),
        Mistake("skip subtracted", "sign of a term", "doubled term", "x"),
        Mistake("branch halved", "a term off by a factor", "doubled term", "x"),
        Mistake("kernel given the skip too", "a term too many", "other function, as if, unknown", "kernel"),
    ),
)


def batched_product(size: int, seed: int, mistake: str) -> Rule:
    """A product of square matrices for each example, with one that all examples share."""
    draw = Draw(seed)
    batch, size = 3, min(size, 32)

    def function(a, b, shared):
        return a @ b @ shared

    def forward(a, b, shared):
        return function(a, b, shared), (a, b, shared)

    def backward(residuals, d_y):
        a, b, shared = residuals
        d_product = d_y @ shared.T
        d_a, d_b = d_product @ b.mT, a.mT @ d_product
        d_shared = jnp.einsum("bji,bjk->ik", a @ b, d_y)
        match mistake:
            case "first factor untransposed":
                d_b = a @ d_product
            case "second factor untransposed":
                d_a = d_product @ b
            case "shared not summed":
                d_shared = (a @ b).mT @ d_y
            case "shared averaged":
                d_shared = d_shared / a.shape[0]
            case "shared from the last example":
                d_shared = (a[-1] @ b[-1]).T @ d_y[-1]
            case "factors in the other order":
                d_shared = jnp.einsum("bji,bjk->ik", b @ a, d_y)
            case "batch reversed":
                d_a = d_a[::-1]
        return d_a, d_b, d_shared

    arguments = draw.normal(batch, size, size), draw.normal(batch, size, size), draw.normal(size, size)
    return Rule(function, forward, backward, arguments)


BATCHED = Family(
    "batched product",
    batched_product,
    (
        Mistake("first factor untransposed", "dW = x dy", "transposed", "b"),
        Mistake("second factor untransposed", "dx = dy W", "transposed", "a"),
        Mistake("shared not summed", "a broadcast axis not summed", "missing sum", "shared", says=("axis 0",)),
        Mistake("shared averaged", "averaged", "factor", "shared"),
        Mistake(
            "shared from the last example",
            "overwritten in a loop",
            "partial sum, region, missing sum, missing term",
            "shared",
        ),
        Mistake("factors in the other order", "factors swapped", "as if, unknown", "shared"),
        Mistake("batch reversed", "order along an axis", "flipped", "a", says=("axis 0",)),
    ),
)

FAMILIES = (DENSE, PERCEPTRON, BROADCAST, OUTER, BILINEAR, TIED, RESIDUAL, BATCHED)
