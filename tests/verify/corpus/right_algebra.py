"""Correct rules of linear algebra and of densities of several variables."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax, nn
from jax.scipy import linalg, special, stats

from .kinds import Right, kept, vjp


def kept_with_output(name, function, backward, arguments):
    """backward: (output, *arguments, d_y) -> cotangents."""

    def forward(*given):
        y = function(*given)
        return y, (y, *given)

    return vjp(name, function, forward, lambda residuals, d_y: backward(*residuals, d_y), arguments)


def swap(a):
    return jnp.swapaxes(a, -1, -2)


def symmetric(a):
    return (a + swap(a)) / 2


def affine_backward(residuals, d_y):
    x, params = residuals
    rows, d_rows = x.reshape(-1, x.shape[-1]), d_y.reshape(-1, d_y.shape[-1])
    return d_y @ params["kernel"].T, {"kernel": rows.T @ d_rows, "bias": d_rows.sum(0)}


def bilinear(x, weight, y):
    return jnp.einsum("bi,kij,bj->bk", x, weight, y)


def bilinear_backward(residuals, d):
    x, weight, y = residuals
    return (
        jnp.einsum("bk,kij,bj->bi", d, weight, y),
        jnp.einsum("bk,bi,bj->kij", d, x, y),
        jnp.einsum("bk,kij,bi->bj", d, weight, x),
    )


def solve_backward(x, a, b, d_x):
    d_b = jnp.linalg.solve(a.T, d_x)
    return -jnp.outer(d_b, x), d_b


def triangular_backward(x, factor, b, d_x):
    d_b = linalg.solve_triangular(factor, d_x, lower=True, trans=1)
    return -jnp.tril(d_b @ x.T), d_b


def determinant_backward(residuals, d_y):
    """By cofactors, which need no inverse: a minor is what is left after its row and column are rolled to the front."""
    (a,) = residuals
    n = len(a)

    def cofactor(i, j):
        minor = jnp.roll(a, (-i, -j), (0, 1))[1:, 1:]
        return jnp.where((n - 1) * (i + j) % 2, -1, 1) * jnp.linalg.det(minor)

    places = jnp.arange(n)
    return (d_y * jax.vmap(lambda i: jax.vmap(lambda j: cofactor(i, j))(places))(places),)


def log_determinant(a):
    return 2 * jnp.log(jnp.diag(jnp.linalg.cholesky(a))).sum()


def log_determinant_forward(a):
    factor = jnp.linalg.cholesky(a)
    return 2 * jnp.log(jnp.diag(factor)).sum(), factor


def log_determinant_backward(factor, d_y):
    return (d_y * linalg.cho_solve((factor, True), jnp.eye(len(factor), dtype=factor.dtype)),)


def cholesky_backward(factor, _, d):
    """Murray 2016, equation 10."""
    middle = jnp.tril(factor.T @ d)
    middle = middle - jnp.diag(jnp.diag(middle)) / 2
    right = linalg.solve_triangular(factor, middle.T, lower=True, trans=1)  # L^-T P^T
    return (symmetric(linalg.solve_triangular(factor, right.T, lower=True, trans=1)),)


def exponential_backward(residuals, d_y):
    """By the exponential of a block matrix (Van Loan 1978)."""
    (a,) = residuals
    n = len(a)
    block = jnp.block([[a.T, d_y], [jnp.zeros_like(a), a.T]])
    return (linalg.expm(block)[:n, n:],)


def power_backward(residuals, d_y):
    (a,) = residuals
    return (d_y @ (a @ a).T + a.T @ d_y @ a.T + (a @ a).T @ d_y,)


def eigenvalues_forward(a):
    values, vectors = jnp.linalg.eigh(a)
    return values, vectors


def eigenvalues_backward(vectors, d):
    return ((vectors * d) @ vectors.T,)


def nuclear_norm(a):
    return jnp.linalg.svd(a, compute_uv=False).sum()


def nuclear_norm_backward(residuals, d_y):
    u, _, vt = jnp.linalg.svd(residuals[0], full_matrices=False)
    return (d_y * u @ vt,)


def least_squares(a, b):
    return jnp.linalg.solve(a.T @ a, a.T @ b)


def least_squares_backward(x, a, b, d_x):
    z = jnp.linalg.solve(a.T @ a, d_x)
    return jnp.outer(b - a @ x, z) - jnp.outer(a @ z, x), a @ z


def ridge(a, b, penalty):
    return jnp.linalg.solve(a.T @ a + penalty * jnp.eye(a.shape[1], dtype=a.dtype), a.T @ b)


def ridge_backward(x, a, b, penalty, d_x):
    z = jnp.linalg.solve(a.T @ a + penalty * jnp.eye(a.shape[1], dtype=a.dtype), d_x)
    return jnp.outer(b - a @ x, z) - jnp.outer(a @ z, x), a @ z, -z @ x


def squared_distances(x, y):
    return jnp.sum((x[:, None] - y[None]) ** 2, -1)


def squared_distances_backward(residuals, d):
    x, y = residuals
    apart = 2 * d[..., None] * (x[:, None] - y[None])
    return apart.sum(1), -apart.sum(0)


def radial_kernel(x, y, log_length):
    return jnp.exp(-0.5 * squared_distances(x, y) * jnp.exp(-2 * log_length))


def radial_kernel_backward(k, x, y, log_length, d):
    precision = jnp.exp(-2 * log_length)
    d_distances = -0.5 * d * k * precision
    return *squared_distances_backward((x, y), d_distances), -2 * jnp.vdot(d_distances, squared_distances(x, y))


def normal_density(x, mean, covariance):
    return stats.multivariate_normal.logpdf(x, mean, covariance)


def normal_density_backward(residuals, d_y):
    x, mean, covariance = residuals
    z = jnp.linalg.solve(covariance, (x - mean).T).T
    d_x = -d_y[:, None] * z
    d_covariance = ((d_y[:, None] * z).T @ z - d_y.sum() * jnp.linalg.inv(covariance)) / 2
    return d_x, -d_x.sum(0), d_covariance


def normal_likelihood(params, x):
    """The mean log likelihood by a Cholesky factor whose diagonal is kept positive by exp."""
    factor = jnp.tril(params["factor"], -1) + jnp.diag(jnp.exp(jnp.diag(params["factor"])))
    z = linalg.solve_triangular(factor, (x - params["mean"]).T, lower=True)
    return -0.5 * jnp.mean((z**2).sum(0)) - jnp.diag(params["factor"]).sum() - z.shape[0] / 2 * math.log(2 * math.pi)


def normal_likelihood_backward(residuals, d_y):
    params, x = residuals
    factor = jnp.tril(params["factor"], -1) + jnp.diag(jnp.exp(jnp.diag(params["factor"])))
    z = linalg.solve_triangular(factor, (x - params["mean"]).T, lower=True)
    d_centred = -d_y / len(x) * linalg.solve_triangular(factor, z, lower=True, trans=1)
    d_factor = -d_centred @ z.T
    d_diagonal = jnp.diag(d_factor) * jnp.exp(jnp.diag(params["factor"])) - d_y
    return {"mean": -d_centred.sum(1), "factor": jnp.tril(d_factor, -1) + jnp.diag(d_diagonal)}, d_centred.T


def dirichlet_density(concentration, x):
    normalizer = special.gammaln(concentration).sum() - special.gammaln(concentration.sum())
    return (special.xlogy(concentration - 1, x)).sum(-1) - normalizer


def dirichlet_backward(residuals, d_y):
    concentration, x = residuals
    digammas = special.digamma(concentration) - special.digamma(concentration.sum())
    d_concentration = (d_y[:, None] * jnp.log(x)).sum(0) - d_y.sum() * digammas
    return d_concentration, d_y[:, None] * (concentration - 1) / x


def mixture_density(x, weights, means):
    """Of unit Gaussians."""
    return special.logsumexp(nn.log_softmax(weights) + stats.norm.logpdf(x[:, None], means), axis=1)


def mixture_backward(y, x, weights, means, d_y):
    apart = x[:, None] - means
    share = jnp.exp(nn.log_softmax(weights) + stats.norm.logpdf(apart) - y[:, None]) * d_y[:, None]
    return -(share * apart).sum(1), share.sum(0) - d_y.sum() * nn.softmax(weights), (share * apart).sum(0)


def rotation(angle):
    return jnp.stack([jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)]).reshape(2, 2)


def rotate_backward(residuals, d_y):
    angle, points = residuals
    r = rotation(angle)
    d_r = d_y.T @ points
    d_angle = -jnp.sin(angle) * (d_r[0, 0] + d_r[1, 1]) + jnp.cos(angle) * (d_r[1, 0] - d_r[0, 1])
    return d_angle, d_y @ r


def frobenius_backward(y, a, d_y):
    return (d_y * a / y,)


def low_rank(x, kernel, adapters):
    """A frozen kernel with an adapter of low rank (Hu et al. 2021)."""
    return x @ lax.stop_gradient(kernel) + x @ adapters[0] @ adapters[1]


def low_rank_backward(residuals, d_y):
    x, kernel, (a, b) = residuals
    d_middle = d_y @ b.T
    return d_y @ kernel.T + d_middle @ a.T, jnp.zeros_like(kernel), (x.T @ d_middle, (x @ a).T @ d_y)


def spectral_norm_forward(a):
    u, s, vt = jnp.linalg.svd(a, full_matrices=False)
    return s[0], (u[:, 0], vt[0])


def quadratic_backward(residuals, d_y):
    a, x = residuals
    return d_y * jnp.outer(x, x), d_y * (a + a.T) @ x


def log_absolute_determinant(a):
    return jnp.linalg.slogdet(a)[1]


def affine(x, params):
    return x @ params["kernel"] + params["bias"]


def mahalanobis(a, x):
    return x @ jnp.linalg.solve(a, x)


def mahalanobis_backward(residuals, d_y):
    a, x = residuals
    z = jnp.linalg.solve(a, x)
    return -d_y * jnp.outer(jnp.linalg.solve(a.T, x), z), d_y * (z + jnp.linalg.solve(a.T, x))


four_by_four = lambda draw: draw.regular(4)  # noqa: E731

ALGEBRA: tuple[Right, ...] = (
    kept("matrix product", jnp.matmul, lambda kept, d: (d @ swap(kept[1]), swap(kept[0]) @ d),
         lambda draw: (draw.normal(3, 4, 2), draw.normal(3, 2, 5))),
    kept("square matrix product", jnp.matmul, lambda kept, d: (d @ kept[1].T, kept[0].T @ d),
         lambda draw: (draw.normal(4, 4), draw.normal(4, 4))),
    kept("matrix and vector", jnp.dot, lambda kept, d: (jnp.outer(d, kept[1]), kept[0].T @ d),
         lambda draw: (draw.normal(5, 3), draw.normal(3))),
    kept("inner product", jnp.vdot, lambda kept, d: (d * kept[1], d * kept[0]),
         lambda draw: (draw.normal(6), draw.normal(6))),
    kept("dense layer over three axes", affine, affine_backward,
         lambda draw: (draw.normal(2, 3, 4), {"kernel": draw.normal(4, 5), "bias": draw.normal(5)})),
    kept("bilinear layer", bilinear, bilinear_backward,
         lambda draw: (draw.normal(4, 3), draw.normal(2, 3, 3), draw.normal(4, 3))),
    kept("chain of matrices", lambda a, b, c: jnp.linalg.multi_dot([a, b, c]), lambda kept, d: (
        d @ (kept[1] @ kept[2]).T, kept[0].T @ d @ kept[2].T, (kept[0] @ kept[1]).T @ d
    ), lambda draw: (draw.normal(2, 3), draw.normal(3, 4), draw.normal(4, 2))),
    kept("low-rank adapter of a frozen kernel", low_rank, low_rank_backward,
         lambda draw: (draw.normal(4, 5), draw.normal(5, 3), (draw.normal(5, 2), draw.normal(2, 3)))),
    kept("trace of a product", lambda a, b: jnp.trace(a @ b), lambda kept, d: (d * kept[1].T, d * kept[0].T),
         lambda draw: (draw.normal(3, 4), draw.normal(4, 3))),
    kept("quadratic form", lambda a, x: x @ a @ x, quadratic_backward,
         lambda draw: (draw.normal(4, 4), draw.normal(4))),
    kept_with_output("Frobenius norm", jnp.linalg.norm, frobenius_backward, lambda draw: draw.normal(3, 4)),
    kept_with_output("solution of equations", jnp.linalg.solve, solve_backward,
                     lambda draw: (draw.regular(4), draw.normal(4))),
    kept_with_output("solution of triangular equations", partial(linalg.solve_triangular, lower=True),
                     triangular_backward, lambda draw: (jnp.tril(draw.regular(4)), draw.normal(4, 2))),
    kept_with_output("inverse", jnp.linalg.inv, lambda y, a, d: (-y.T @ d @ y.T,), four_by_four),
    kept("determinant", jnp.linalg.det, determinant_backward, four_by_four),
    kept("log of |determinant|", log_absolute_determinant, lambda kept, d: (d * jnp.linalg.inv(kept[0]).T,),
         four_by_four),
    vjp("log determinant by Cholesky", log_determinant, log_determinant_forward, log_determinant_backward,
        lambda draw: draw.definite(4, 4)),
    kept_with_output("Cholesky factor", jnp.linalg.cholesky, cholesky_backward, lambda draw: draw.definite(3, 3)),
    kept("Mahalanobis distance", mahalanobis, mahalanobis_backward, lambda draw: (draw.definite(4, 4), draw.normal(4))),
    kept("matrix exponential", linalg.expm, exponential_backward, lambda draw: draw.narrow(3, 3)),
    kept("third matrix power", partial(jnp.linalg.matrix_power, n=3), power_backward, lambda draw: draw.narrow(3, 3)),
    vjp("eigenvalues", jnp.linalg.eigvalsh, eigenvalues_forward, eigenvalues_backward,
        lambda draw: draw.definite(4, 4)),
    kept("nuclear norm", nuclear_norm, nuclear_norm_backward, lambda draw: draw.normal(5, 3)),
    vjp("spectral norm", partial(jnp.linalg.norm, ord=2), spectral_norm_forward,
        lambda vectors, d: (d * jnp.outer(*vectors),), lambda draw: draw.normal(3, 4)),
    kept_with_output("least squares", least_squares, least_squares_backward,
                     lambda draw: (draw.normal(9, 3), draw.normal(9))),
    kept_with_output("ridge regression with a scalar penalty", ridge, ridge_backward,
                     lambda draw: (draw.normal(6, 4), draw.normal(6), draw.positive())),
    kept("squared distances", squared_distances, squared_distances_backward,
         lambda draw: (draw.normal(4, 3), draw.normal(5, 3))),
    kept_with_output("radial kernel", radial_kernel, radial_kernel_backward,
                     lambda draw: (draw.normal(4, 2), draw.normal(4, 2), draw.narrow())),
    kept("normal density of rows", normal_density, normal_density_backward,
         lambda draw: (draw.normal(5, 3), draw.normal(3), draw.definite(3, 3))),
    kept("normal likelihood by a factor", normal_likelihood, normal_likelihood_backward,
         lambda draw: ({"mean": draw.normal(3), "factor": draw.narrow(3, 3)}, draw.normal(6, 3))),
    kept("Dirichlet density", dirichlet_density, dirichlet_backward,
         lambda draw: (draw.positive(4), draw.shares(3, 4))),
    kept_with_output("mixture of Gaussians", mixture_density, mixture_backward,
                     lambda draw: (draw.normal(6), draw.normal(3), draw.normal(3))),
    kept("rotation of points by an angle", lambda angle, points: points @ rotation(angle).T, rotate_backward,
         lambda draw: (draw.normal(), draw.normal(5, 2))),
)  # fmt: skip
