"""Correct whole gradients, by hand, of losses by parameters."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from .kinds import Right, gradient


def linear_regression(params, x, y):
    return jnp.mean((x @ params["weights"] + params["bias"] - y) ** 2)


def linear_regression_gradient(params, x, y):
    errors = 2 * (x @ params["weights"] + params["bias"] - y) / len(y)
    return {"weights": x.T @ errors, "bias": errors.sum()}


def numpy_regression_gradient(params, x, y):
    """By NumPy alone."""
    x, y = np.asarray(x), np.asarray(y)
    errors = 2 * (x @ np.asarray(params["weights"]) + np.asarray(params["bias"]) - y) / len(y)
    return {"weights": x.T @ errors, "bias": errors.sum()}


def ridge(weights, x, y):
    return 0.5 * jnp.sum((x @ weights - y) ** 2) + 0.05 * jnp.sum(weights**2)


def ridge_gradient(weights, x, y):
    return x.T @ (x @ weights - y) + 0.1 * weights


def logistic_regression(weights, x, labels):
    """labels: -1 and 1."""
    return jnp.mean(nn.softplus(-labels * (x @ weights)))


def logistic_regression_gradient(weights, x, labels):
    return -x.T @ (labels * nn.sigmoid(-labels * (x @ weights))) / len(labels)


def softmax_regression(params, x, labels):
    log_p = nn.log_softmax(x @ params["kernel"] + params["bias"])
    return -jnp.take_along_axis(log_p, labels[:, None], 1).mean()


def softmax_regression_gradient(params, x, labels):
    """The pair of the loss and the gradient, as ``jax.value_and_grad`` gives it."""
    p = nn.softmax(x @ params["kernel"] + params["bias"])
    d = (p - nn.one_hot(labels, p.shape[1], dtype=p.dtype)) / len(labels)
    return softmax_regression(params, x, labels), {"kernel": x.T @ d, "bias": d.sum(0)}


def poisson_regression(weights, x, counts):
    return jnp.mean(jnp.exp(x @ weights) - counts * (x @ weights))


def poisson_regression_gradient(weights, x, counts):
    return x.T @ (jnp.exp(x @ weights) - counts) / len(counts)


def network(params, x, y):
    h = jnp.tanh(x @ params[0]["kernel"] + params[0]["bias"])
    return 0.5 * jnp.sum((h @ params[1]["kernel"] + params[1]["bias"] - y) ** 2) / len(x)


def network_gradient(params, x, y):
    h = jnp.tanh(x @ params[0]["kernel"] + params[0]["bias"])
    d_y = (h @ params[1]["kernel"] + params[1]["bias"] - y) / len(x)
    d_z = d_y @ params[1]["kernel"].T * (1 - h**2)
    return [{"kernel": x.T @ d_z, "bias": d_z.sum(0)}, {"kernel": h.T @ d_y, "bias": d_y.sum(0)}]


def classifier(params, x, labels):
    z = nn.relu(x @ params["hidden"]) @ params["out"]
    return (nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, labels[:, None], 1)[:, 0]).mean()


def classifier_gradient(params, x, labels):
    h = nn.relu(x @ params["hidden"])
    p = nn.softmax(h @ params["out"])
    d = p.at[jnp.arange(len(x)), labels].add(-1) / len(x)
    return {"hidden": x.T @ jnp.where(h > 0, d @ params["out"].T, 0), "out": h.T @ d}


def reconstruction(basis, x):
    """The error of principal component analysis."""
    return jnp.sum((x - x @ basis @ basis.T) ** 2)


def reconstruction_gradient(basis, x):
    errors = x @ basis @ basis.T - x
    return 2 * (x.T @ errors + errors.T @ x) @ basis


def rayleigh(direction, a):
    return direction @ a @ direction / (direction @ direction)


def rayleigh_gradient(direction, a):
    squares = direction @ direction
    return ((a + a.T) @ direction - 2 * rayleigh(direction, a) * direction) / squares


def clusters(centres, x):
    """The mean squared distance to the nearest centre; which one that is counts as fixed."""
    nearest = lax.stop_gradient(jnp.argmin(((x[:, None] - centres) ** 2).sum(-1), 1))
    return jnp.mean(jnp.sum((x - centres[nearest]) ** 2, -1))


def clusters_gradient(centres, x):
    nearest = jnp.argmin(((x[:, None] - centres) ** 2).sum(-1), 1)
    return jax.ops.segment_sum(2 * (centres[nearest] - x) / len(x), nearest, num_segments=len(centres))


def soft_clusters(centres, x):
    """Expectation maximisation's bound: responsibilities are constants."""
    distances = ((x[:, None] - centres) ** 2).sum(-1)
    return jnp.mean((lax.stop_gradient(nn.softmax(-distances)) * distances).sum(1))


def soft_clusters_gradient(centres, x):
    apart = centres - x[:, None]
    shares = nn.softmax(-(apart**2).sum(-1))
    return 2 * jnp.einsum("nk,nkd->kd", shares, apart) / len(x)


def factorization(params, users, items, ratings):
    predictions = (params["users"][users] * params["items"][items]).sum(1) + params["mean"]
    return jnp.mean((predictions - ratings) ** 2)


def factorization_gradient(params, users, items, ratings):
    u, v = params["users"][users], params["items"][items]
    errors = 2 * ((u * v).sum(1) + params["mean"] - ratings) / len(ratings)
    return {
        "users": jnp.zeros_like(params["users"]).at[users].add(errors[:, None] * v),
        "items": jnp.zeros_like(params["items"]).at[items].add(errors[:, None] * u),
        "mean": errors.sum(),
    }


def negative_sampling(params, words, contexts, others):
    """word2vec (Mikolov et al. 2013)."""
    w = params["words"][words]
    near = (w * params["contexts"][contexts]).sum(-1)
    far = jnp.einsum("bd,bnd->bn", w, params["contexts"][others])
    return jnp.sum(nn.softplus(-near)) + jnp.sum(nn.softplus(far))


def negative_sampling_gradient(params, words, contexts, others):
    w, near, far = params["words"][words], params["contexts"][contexts], params["contexts"][others]
    d_near = -nn.sigmoid(-(w * near).sum(-1))[:, None]
    d_far = nn.sigmoid(jnp.einsum("bd,bnd->bn", w, far))[..., None]
    d_contexts = jnp.zeros_like(params["contexts"]).at[contexts].add(d_near * w).at[others].add(d_far * w[:, None])
    d_words = jnp.zeros_like(params["words"]).at[words].add(d_near * near + (d_far * far).sum(1))
    return {"words": d_words, "contexts": d_contexts}


def paired_comparisons(ratings, winners, losers):
    """Bradley & Terry 1952."""
    return jnp.sum(nn.softplus(ratings[losers] - ratings[winners])) + 0.01 * jnp.sum(ratings**2)


def paired_comparisons_gradient(ratings, winners, losers):
    d = nn.sigmoid(ratings[losers] - ratings[winners])
    return (0.02 * ratings).at[losers].add(d).at[winners].add(-d)


def support_vectors(params, x, labels):
    weights, bias = params
    return jnp.mean(jnp.maximum(0, 1 - labels * (x @ weights - bias))) + 0.1 * weights @ weights


def support_vectors_gradient(params, x, labels):
    weights, bias = params
    d = -labels * (labels * (x @ weights - bias) < 1) / len(x)
    return x.T @ d + 0.2 * weights, -d.sum()


def proportional_hazards(weights, x, events):
    """Cox 1972; rows by descending time, so that whoever is at risk stands at or above a row."""
    scores = x @ weights
    return -jnp.sum(jnp.where(events, scores - lax.cumlogsumexp(scores), 0))


def proportional_hazards_gradient(weights, x, events):
    scores = x @ weights
    risk = jnp.tril(jnp.exp(jnp.minimum(scores - lax.cumlogsumexp(scores)[:, None], 0)))
    d = risk.T @ events.astype(x.dtype) - events
    return x.T @ d.astype(x.dtype)


def factorization_machine(params, x, y):
    """Rendle 2010: all pairs of features, in linear time."""
    sums, squares = x @ params["factors"], x**2 @ params["factors"] ** 2
    return jnp.mean((x @ params["weights"] + 0.5 * (sums**2 - squares).sum(1) - y) ** 2)


def factorization_machine_gradient(params, x, y):
    sums, squares = x @ params["factors"], x**2 @ params["factors"] ** 2
    d = 2 * (x @ params["weights"] + 0.5 * (sums**2 - squares).sum(1) - y) / len(y)
    d_factors = x.T @ (d[:, None] * sums) - params["factors"] * (d @ x**2)[:, None]
    return {"weights": x.T @ d, "factors": d_factors}


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_gradient(x):
    rise = x[1:] - x[:-1] ** 2
    first = -400 * x[:-1] * rise - 2 * (1 - x[:-1])
    return jnp.pad(first, (0, 1)) + jnp.pad(200 * rise, (1, 0))


def autoregression(params, series):
    """The error of predicting each value from the two before it."""
    a, b = params["lags"]
    return jnp.mean((series[2:] - a * series[1:-1] - b * series[:-2] - params["level"]) ** 2)


def autoregression_gradient(params, series):
    a, b = params["lags"]
    errors = -2 * (series[2:] - a * series[1:-1] - b * series[:-2] - params["level"]) / (len(series) - 2)
    return {"lags": (errors @ series[1:-1], errors @ series[:-2]), "level": errors.sum()}


def temporal_difference(weights, states, rewards):
    """One-step TD learning: the bootstrapped target is a constant."""
    values = states @ weights
    return 0.5 * jnp.mean((rewards + 0.9 * lax.stop_gradient(values[1:]) - values[:-1]) ** 2)


def temporal_difference_gradient(weights, states, rewards):
    values = states @ weights
    return -states[:-1].T @ (rewards + 0.9 * values[1:] - values[:-1]) / len(rewards)


def regression_data(draw):
    return {"weights": draw.normal(3), "bias": draw.normal()}, draw.normal(7, 3), draw.normal(7)


GRADIENTS: tuple[Right, ...] = (
    gradient("linear regression", linear_regression_gradient, linear_regression, regression_data),
    gradient("linear regression in NumPy", numpy_regression_gradient, linear_regression, regression_data),
    gradient("ridge regression", ridge_gradient, ridge,
             lambda draw: (draw.normal(3), draw.normal(6, 3), draw.normal(6))),
    gradient("logistic regression", logistic_regression_gradient, logistic_regression,
             lambda draw: (draw.normal(4), draw.normal(8, 4), draw.signs(8))),
    gradient("softmax regression", softmax_regression_gradient, softmax_regression,
             lambda draw: ({"kernel": draw.normal(4, 3), "bias": draw.normal(3)}, draw.normal(6, 4), draw.ids(3, 6))),
    gradient("Poisson regression", poisson_regression_gradient, poisson_regression,
             lambda draw: (draw.narrow(3), draw.narrow(9, 3), draw.random.poisson(2, 9).astype(np.float32))),
    gradient("network of two layers", network_gradient, network, lambda draw: (
        [{"kernel": draw.normal(3, 5), "bias": draw.normal(5)}, {"kernel": draw.normal(5, 2), "bias": draw.normal(2)}],
        draw.normal(6, 3), draw.normal(6, 2),
    )),
    gradient("classifier of two layers", classifier_gradient, classifier,
             lambda draw: ({"hidden": draw.normal(3, 6), "out": draw.normal(6, 4)}, draw.normal(5, 3), draw.ids(4, 5))),
    gradient("principal components", reconstruction_gradient, reconstruction,
             lambda draw: (draw.normal(4, 2), draw.normal(6, 4))),
    gradient("Rayleigh quotient", rayleigh_gradient, rayleigh, lambda draw: (draw.normal(4), draw.normal(4, 4))),
    gradient("clusters", clusters_gradient, clusters, lambda draw: (draw.normal(3, 2), draw.normal(9, 2))),
    gradient("soft clusters", soft_clusters_gradient, soft_clusters,
             lambda draw: (draw.normal(3, 2), draw.normal(7, 2))),
    gradient("matrix factorization", factorization_gradient, factorization, lambda draw: (
        {"users": draw.normal(4, 3), "items": draw.normal(5, 3), "mean": draw.normal()},
        draw.ids(4, 9), draw.ids(5, 9), draw.normal(9),
    )),
    gradient("word vectors by negative sampling", negative_sampling_gradient, negative_sampling, lambda draw: (
        {"words": draw.normal(6, 3), "contexts": draw.normal(6, 3)}, draw.ids(6, 5), draw.ids(6, 5), draw.ids(6, 5, 2)
    )),
    gradient("paired comparisons", paired_comparisons_gradient, paired_comparisons,
             lambda draw: (draw.normal(5), draw.ids(5, 8), draw.ids(5, 8))),
    gradient("support vector machine", support_vectors_gradient, support_vectors,
             lambda draw: ((draw.normal(3), draw.normal()), draw.normal(8, 3), draw.signs(8))),
    gradient("proportional hazards", proportional_hazards_gradient, proportional_hazards,
             lambda draw: (draw.normal(3), draw.normal(7, 3), draw.mask(7))),
    gradient("factorization machine", factorization_machine_gradient, factorization_machine, lambda draw: (
        {"weights": draw.normal(5), "factors": draw.normal(5, 2)}, draw.normal(6, 5), draw.normal(6)
    )),
    gradient("Rosenbrock's function", rosenbrock_gradient, rosenbrock, lambda draw: (draw.normal(5),)),
    gradient("autoregression", autoregression_gradient, autoregression,
             lambda draw: ({"lags": (draw.narrow(), draw.narrow()), "level": draw.normal()}, draw.normal(12))),
    gradient("temporal differences", temporal_difference_gradient, temporal_difference,
             lambda draw: (draw.normal(3), draw.normal(7, 3), draw.normal(6))),
)  # fmt: skip
