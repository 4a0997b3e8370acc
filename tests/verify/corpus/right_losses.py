"""Correct rules of losses, most of them optax's."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax import lax, nn
from jax.scipy.special import digamma

from .kinds import Right, vjp


def hot(labels, like):
    """Rows of one-hot vectors, of the shape and dtype of ``like``."""
    return nn.one_hot(labels, like.shape[-1], dtype=like.dtype)


def softmax_cross_entropy_forward(logits, labels):
    return optax.softmax_cross_entropy(logits, labels), (nn.log_softmax(logits), labels)


def softmax_cross_entropy_backward(residuals, d_loss):
    log_p, labels = residuals
    d = d_loss[..., None]
    return d * (jnp.exp(log_p) * labels.sum(-1, keepdims=True) - labels), -d * log_p


def integer_labels_forward(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), (nn.softmax(logits), labels)


def integer_labels_backward(residuals, d_loss):
    p, labels = residuals
    return d_loss[..., None] * (p - hot(labels, p)), None


def mean_cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def mean_cross_entropy_backward(residuals, d_loss):
    p, labels = residuals
    return d_loss / labels.size * (p - hot(labels, p)), None


def masked_cross_entropy(logits, labels, mask):
    """The mean over the positions that count."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(mask, losses, 0).sum() / jnp.maximum(mask.sum(), 1)


def masked_cross_entropy_backward(residuals, d_loss):
    p, labels, mask = residuals
    weights = d_loss * mask / jnp.maximum(mask.sum(), 1)
    return weights[..., None].astype(p.dtype) * (p - hot(labels, p)), None, None


def smoothed_cross_entropy(logits, labels, alpha=0.1):
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(hot(labels, logits), alpha))


def smoothed_cross_entropy_backward(residuals, d_loss):
    p, labels = residuals
    return d_loss[:, None] * (p - 0.9 * hot(labels, p) - 0.1 / p.shape[-1]), None


def poly_loss_forward(logits, labels):
    return optax.losses.poly_loss_cross_entropy(logits, labels, epsilon=2.0), (logits, labels)


def poly_loss_backward(residuals, d_loss):
    logits, labels = residuals
    p, d = nn.softmax(logits), d_loss[:, None]
    expected = (labels * p).sum(-1, keepdims=True)
    d_logits = p * labels.sum(-1, keepdims=True) - labels - 2.0 * p * (labels - expected)
    return d * d_logits, d * (2.0 * (1 - p) - nn.log_softmax(logits))


def focal_loss(logits, labels, gamma=2.0):
    """Lin et al. 2017, with labels of 0 and 1 as integers."""
    p = nn.sigmoid(jnp.where(labels == 1, logits, -logits))
    return -((1 - p) ** gamma) * jnp.log(p)


def focal_loss_forward(logits, labels):
    sign = jnp.where(labels == 1, 1, -1).astype(logits.dtype)
    return focal_loss(logits, labels), {"z": sign * logits, "sign": sign}


def focal_loss_backward(residuals, d_loss):
    z, sign = residuals["z"], residuals["sign"]
    p, q = nn.sigmoid(z), nn.sigmoid(-z)
    return d_loss * sign * q**2 * (2 * p * jnp.log(p) - q), None


def cosine_forward(predictions, targets):
    norms = [jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (predictions, targets)]
    return optax.cosine_similarity(predictions, targets), (predictions / norms[0], targets / norms[1], norms)


def cosine_backward(residuals, d_y):
    a, b, (norm_a, norm_b) = residuals
    cosine, d = (a * b).sum(-1, keepdims=True), d_y[..., None]
    return d * (b - cosine * a) / norm_a, d * (a - cosine * b) / norm_b


def of_errors(slope):
    """Losses of predictions minus targets."""

    def backward(residuals, d_loss):
        d = d_loss * slope(residuals)
        return d, -d

    return backward


def root_mean_square_error(predictions, targets):
    return jnp.sqrt(optax.squared_error(predictions, targets).mean())


def root_mean_square_error_backward(residuals, d_loss):
    errors, loss = residuals
    d = d_loss * errors / (errors.size * loss)
    return d, -d


def hinge_backward(residuals, d_loss):
    outputs, targets = residuals
    d = -d_loss * (outputs * targets < 1)
    return d * targets, d * outputs


def perceptron_backward(residuals, d_loss):
    outputs, targets = residuals
    d = -d_loss * (outputs * targets < 0)
    return d * targets, d * outputs


def multiclass_hinge_backward(residuals, d_loss):
    scores, labels = residuals
    target = hot(labels, scores)
    worst = hot(jnp.argmax(scores + 1 - target, -1), scores)
    return d_loss[..., None].astype(scores.dtype) * (worst - target), None


def kl_backward(residuals, d_loss):
    log_predictions, targets = residuals
    d = d_loss[..., None]
    return -d * targets, d * (jnp.log(targets) + 1 - log_predictions)


def kl_log_targets_backward(residuals, d_loss):
    log_predictions, log_targets = residuals
    d, targets = d_loss[..., None], jnp.exp(log_targets)
    return -d * targets, d * targets * (log_targets - log_predictions + 1)


def convex_kl_backward(residuals, d_loss):
    log_predictions, targets = residuals
    d = d_loss[..., None]
    return d * (jnp.exp(log_predictions) - targets), d * (jnp.log(targets) - log_predictions)


def jensen_shannon(p, q):
    middle = (p + q) / 2
    return (p * jnp.log(p / middle) + q * jnp.log(q / middle)).sum(-1) / 2


def jensen_shannon_backward(residuals, d_loss):
    p, q = residuals
    d = d_loss[..., None] / 2
    return d * jnp.log(2 * p / (p + q)), d * jnp.log(2 * q / (p + q))


def triplet_backward(residuals, d_loss):
    anchors, positives, negatives, active = residuals
    near, far = anchors - positives, anchors - negatives
    d = (d_loss * active)[..., None]
    d_near = d * near / jnp.linalg.norm(near, axis=-1, keepdims=True)
    d_far = -d * far / jnp.linalg.norm(far, axis=-1, keepdims=True)
    return d_near + d_far, -d_near, -d_far


def triplet(anchors, positives, negatives):
    near = jnp.linalg.norm(anchors - positives, axis=-1)
    return nn.relu(near - jnp.linalg.norm(anchors - negatives, axis=-1) + 1.0)


def triplet_forward(anchors, positives, negatives):
    loss = triplet(anchors, positives, negatives)
    return loss, (anchors, positives, negatives, loss > 0)


def contrastive(images, texts, log_temperature):
    """CLIP's loss (Radford et al. 2021) of matrices whose equal rows belong together."""
    logits = jnp.exp(log_temperature) * images @ texts.T
    rows, columns = nn.log_softmax(logits, axis=1), nn.log_softmax(logits, axis=0)
    return -(jnp.trace(rows) + jnp.trace(columns)) / (2 * len(logits))


def contrastive_forward(images, texts, log_temperature):
    return contrastive(images, texts, log_temperature), (images, texts, jnp.exp(log_temperature))


def contrastive_backward(residuals, d_loss):
    images, texts, temperature = residuals
    scores = images @ texts.T
    logits = temperature * scores
    eye = jnp.eye(len(logits), dtype=logits.dtype)
    d_logits = d_loss / (2 * len(logits)) * (nn.softmax(logits, axis=1) + nn.softmax(logits, axis=0) - 2 * eye)
    d_scores = temperature * d_logits
    return d_scores @ texts, d_scores.T @ images, temperature * jnp.vdot(d_logits, scores)


class Gaussian(NamedTuple):
    mean: Any
    log_scale: Any


def gaussian_loss(prediction: Gaussian, targets):
    z = (targets - prediction.mean) * jnp.exp(-prediction.log_scale)
    return jnp.mean(z**2 / 2 + prediction.log_scale + math.log(2 * math.pi) / 2)


def gaussian_forward(prediction, targets):
    z = (targets - prediction.mean) * jnp.exp(-prediction.log_scale)
    return gaussian_loss(prediction, targets), (z, jnp.exp(-prediction.log_scale))


def gaussian_backward(residuals, d_loss):
    z, inverse_scale = residuals
    d = d_loss / z.size
    return Gaussian(-d * z * inverse_scale, d * (1 - z**2)), d * z * inverse_scale


def kl_to_standard_normal(posterior):
    """A variational autoencoder's regulariser."""
    mean, log_variance = posterior["mean"], posterior["log_variance"]
    return 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=-1)


def kl_to_standard_normal_backward(residuals, d_loss):
    d = d_loss[:, None]
    return ({"mean": d * residuals["mean"], "log_variance": d * jnp.expm1(residuals["log_variance"]) / 2},)


def gamma_loss(shape, rate, x):
    return -jnp.mean(shape * jnp.log(rate) + (shape - 1) * jnp.log(x) - rate * x - lax.lgamma(shape))


def gamma_backward(residuals, d_loss):
    shape, rate, x = residuals
    d = -d_loss / x.size
    return (
        (d * (jnp.log(rate * x) - digamma(shape))).sum(0),
        (d * (shape / rate - x)).sum(0),
        d * ((shape - 1) / x - rate),
    )


def codebook_loss(z, codebook, commitment=0.25):
    """VQ-VAE's two terms (van den Oord et al. 2017), and which code each row of z is nearest to."""
    distances = jnp.sum((z[:, None] - codebook) ** 2, -1)
    ids = jnp.argmin(distances, 1)
    code = codebook[ids]
    loss = jnp.mean((lax.stop_gradient(z) - code) ** 2) + commitment * jnp.mean((z - lax.stop_gradient(code)) ** 2)
    return loss, ids


def codebook_forward(z, codebook):
    loss, ids = codebook_loss(z, codebook)
    return (loss, ids), (z - codebook[ids], ids, codebook)


def codebook_backward(residuals, d):
    errors, ids, codebook = residuals
    d_errors = 2 * d[0] * errors / errors.size
    return 0.25 * d_errors, jnp.zeros_like(codebook).at[ids].add(-d_errors)


def policy_loss(log_probabilities, values, returns):
    """Actor and critic: the advantage is a constant to the actor."""
    advantage = lax.stop_gradient(returns - values)
    return {"actor": -jnp.mean(advantage * log_probabilities), "critic": jnp.mean((values - returns) ** 2)}


def policy_backward(residuals, d):
    advantage = residuals
    d_critic = 2 * d["critic"] * advantage / advantage.size
    return -d["actor"] * advantage / advantage.size, -d_critic, d_critic


def dice_backward(residuals, d_loss):
    p, targets = residuals
    numerator, denominator = 2 * (p * targets).sum((1, 2)) + 1, (p + targets).sum((1, 2)) + 1
    d_of = lambda other: -d_loss * (2 * other / denominator - numerator / denominator**2)  # noqa: E731
    d_loss = d_loss[:, None, None]
    numerator, denominator = numerator[:, None, None], denominator[:, None, None]
    return d_of(targets), d_of(p)


def dice(p, targets):
    return 1 - (2 * (p * targets).sum((1, 2)) + 1) / ((p + targets).sum((1, 2)) + 1)


def errors_of(loss):
    return lambda predictions, targets: (loss(predictions, targets), predictions - targets)


def keep_both(loss):
    return lambda predictions, targets: (loss(predictions, targets), (predictions, targets))


def two_normal(draw):
    return draw.normal(6, 3), draw.normal(6, 3)


def log_shares(draw):
    return jnp.log(draw.shares(3, 5)), draw.shares(3, 5)


binary_cross_entropy = optax.sigmoid_binary_cross_entropy

LOSSES: tuple[Right, ...] = (
    vjp(
        "softmax cross-entropy", optax.softmax_cross_entropy, softmax_cross_entropy_forward,
        softmax_cross_entropy_backward, lambda draw: (draw.normal(4, 6), draw.shares(4, 6)),
    ),
    vjp(
        "softmax cross-entropy, large logits", optax.softmax_cross_entropy, softmax_cross_entropy_forward,
        softmax_cross_entropy_backward, lambda draw: (draw.wide(4, 3, 5), draw.shares(4, 3, 5)),
    ),
    vjp(
        "cross-entropy with integer labels", optax.softmax_cross_entropy_with_integer_labels, integer_labels_forward,
        integer_labels_backward, lambda draw: (draw.normal(5, 4), draw.ids(4, 5)),
    ),
    vjp(
        "cross-entropy of one example", optax.softmax_cross_entropy_with_integer_labels, integer_labels_forward,
        integer_labels_backward, lambda draw: (draw.normal(1, 7), draw.ids(7, 1)),
    ),
    vjp(
        "mean cross-entropy", mean_cross_entropy, lambda logits, labels: (
            mean_cross_entropy(logits, labels), (nn.softmax(logits), labels)
        ), mean_cross_entropy_backward, lambda draw: (draw.normal(8, 3), draw.ids(3, 8)),
    ),
    vjp(
        "masked cross-entropy", masked_cross_entropy, lambda logits, labels, mask: (
            masked_cross_entropy(logits, labels, mask), (nn.softmax(logits), labels, mask)
        ), masked_cross_entropy_backward, lambda draw: (draw.normal(3, 5, 4), draw.ids(4, 3, 5), draw.mask(3, 5)),
    ),
    vjp(
        "label smoothing", smoothed_cross_entropy, lambda logits, labels: (
            smoothed_cross_entropy(logits, labels), (nn.softmax(logits), labels)
        ), smoothed_cross_entropy_backward, lambda draw: (draw.normal(5, 6), draw.ids(6, 5)),
    ),
    vjp(
        "poly loss", partial(optax.losses.poly_loss_cross_entropy, epsilon=2.0), poly_loss_forward, poly_loss_backward,
        lambda draw: (draw.normal(4, 5), draw.shares(4, 5)),
    ),
    vjp(
        "focal loss", focal_loss, focal_loss_forward, focal_loss_backward,
        lambda draw: (draw.normal(9), draw.ids(2, 9)),
    ),
    vjp(
        "binary cross-entropy", binary_cross_entropy, keep_both(binary_cross_entropy),
        lambda kept, d: (d * (nn.sigmoid(kept[0]) - kept[1]), -d * kept[0]),
        lambda draw: (draw.normal(3, 4), draw.flags(3, 4)),
    ),
    vjp(
        "mean binary cross-entropy of booleans", lambda logits, labels: binary_cross_entropy(logits, labels).mean(),
        lambda logits, labels: (binary_cross_entropy(logits, labels).mean(), (logits, labels)),
        lambda kept, d: (d / kept[0].size * jnp.where(kept[1], -nn.sigmoid(-kept[0]), nn.sigmoid(kept[0])), None),
        lambda draw: (draw.wide(7), draw.mask(7)),
    ),
    vjp("cosine similarity", optax.cosine_similarity, cosine_forward, cosine_backward, two_normal),
    vjp(
        "squared error", optax.squared_error, errors_of(optax.squared_error), of_errors(lambda errors: 2 * errors),
        two_normal,
    ),
    vjp("l2 loss", optax.l2_loss, errors_of(optax.l2_loss), of_errors(lambda errors: errors), two_normal),
    vjp(
        "Huber loss", partial(optax.huber_loss, delta=0.7), errors_of(partial(optax.huber_loss, delta=0.7)),
        of_errors(lambda errors: jnp.clip(errors, -0.7, 0.7)), two_normal,
    ),
    vjp("log cosh", optax.log_cosh, errors_of(optax.log_cosh), of_errors(jnp.tanh), two_normal),
    vjp(
        "mean squared error",
        lambda predictions, targets: jnp.mean((predictions - targets) ** 2),
        lambda predictions, targets: (jnp.mean((predictions - targets) ** 2), predictions - targets),
        of_errors(lambda errors: 2 * errors / errors.size), two_normal,
    ),
    vjp(
        "root mean square error", root_mean_square_error, lambda predictions, targets: (
            root_mean_square_error(predictions, targets),
            (predictions - targets, root_mean_square_error(predictions, targets)),
        ), root_mean_square_error_backward, two_normal,
    ),
    vjp(
        "pinball loss",
        lambda predictions, targets: jnp.maximum(0.9 * (targets - predictions), 0.1 * (predictions - targets)),
        lambda predictions, targets: (
            jnp.where(targets > predictions, 0.9, -0.1).astype(predictions.dtype) * (targets - predictions),
            targets > predictions,
        ),
        lambda below, d: (jnp.where(below, -0.9, 0.1) * d, jnp.where(below, 0.9, -0.1) * d), two_normal,
    ),
    vjp(
        "hinge loss", optax.losses.hinge_loss, keep_both(optax.losses.hinge_loss), hinge_backward,
        lambda draw: (draw.normal(11), draw.signs(11)),
    ),
    vjp(
        "perceptron loss", optax.losses.perceptron_loss, keep_both(optax.losses.perceptron_loss), perceptron_backward,
        lambda draw: (draw.normal(11), draw.signs(11)),
    ),
    vjp(
        "multiclass hinge loss", optax.losses.multiclass_hinge_loss, keep_both(optax.losses.multiclass_hinge_loss),
        multiclass_hinge_backward, lambda draw: (draw.normal(5, 4), draw.ids(4, 5)),
    ),
    vjp("KL divergence", optax.losses.kl_divergence, keep_both(optax.losses.kl_divergence), kl_backward, log_shares),
    vjp(
        "KL divergence with log targets", optax.losses.kl_divergence_with_log_targets,
        keep_both(optax.losses.kl_divergence_with_log_targets), kl_log_targets_backward,
        lambda draw: (jnp.log(draw.shares(3, 5)), jnp.log(draw.shares(3, 5))),
    ),
    vjp(
        "generalized KL divergence", optax.losses.generalized_kl_divergence,
        keep_both(optax.losses.generalized_kl_divergence), convex_kl_backward, log_shares,
    ),
    vjp(
        "Jensen-Shannon divergence", jensen_shannon, lambda p, q: (jensen_shannon(p, q), (p, q)),
        jensen_shannon_backward, lambda draw: (draw.shares(4, 6), draw.shares(4, 6)),
    ),
    vjp(
        "triplet loss", triplet, triplet_forward, triplet_backward,
        lambda draw: (draw.normal(5, 4), draw.normal(5, 4), draw.normal(5, 4)),
    ),
    vjp(
        "contrastive loss with a scalar temperature", contrastive, contrastive_forward, contrastive_backward,
        lambda draw: (draw.normal(4, 3), draw.normal(4, 3), draw.normal()),
    ),
    vjp(
        "Gaussian likelihood of a named tuple", gaussian_loss, gaussian_forward, gaussian_backward,
        lambda draw: (Gaussian(draw.normal(4, 2), draw.narrow(4, 2)), draw.normal(4, 2)),
    ),
    vjp(
        "KL divergence to a standard normal", kl_to_standard_normal,
        lambda posterior: (kl_to_standard_normal(posterior), posterior), kl_to_standard_normal_backward,
        lambda draw: {"mean": draw.normal(3, 4), "log_variance": draw.normal(3, 4)},
    ),
    vjp(
        "gamma likelihood", gamma_loss, lambda shape, rate, x: (gamma_loss(shape, rate, x), (shape, rate, x)),
        gamma_backward, lambda draw: (draw.positive(3), draw.positive(3), draw.positive(5, 3)),
    ),
    vjp(
        "codebook loss beside integer ids", codebook_loss, codebook_forward, codebook_backward,
        lambda draw: (draw.normal(7, 3), draw.normal(4, 3)),
    ),
    vjp(
        "actor and critic losses", policy_loss,
        lambda log_probabilities, values, returns: (policy_loss(log_probabilities, values, returns), returns - values),
        policy_backward, lambda draw: (-draw.positive(6), draw.normal(6), draw.normal(6)),
    ),
    vjp("dice loss", dice, keep_both(dice), dice_backward, lambda draw: (draw.unit(3, 4, 5), draw.flags(3, 4, 5))),
)  # fmt: skip
