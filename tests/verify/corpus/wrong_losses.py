"""Wrong rules of losses: what counts, what is padding, what comes in from above, and alignments."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .kinds import Draw
from .registry import Family, Mistake, Rule

SMOOTHING = 0.1


def cross_entropy(size: int, seed: int, mistake: str) -> Rule:
    """The mean over rows, with smoothed labels."""
    draw = Draw(seed)
    rows, classes = (size, size) if mistake == "softmax over the rows" else (size, size + 1)

    def function(logits, labels):
        q = (1 - SMOOTHING) * jax.nn.one_hot(labels, classes, dtype=logits.dtype) + SMOOTHING / classes
        return -(q * jax.nn.log_softmax(logits)).sum(-1).mean()

    def forward(logits, labels):
        y = function(logits, labels)
        if mistake == "forward gives the sum":
            y = y * rows
        return y, (logits, labels)

    def backward(residuals, d_y):
        logits, labels = residuals
        if mistake == "labels counted from 1":
            labels = labels - 1
        p = jax.nn.softmax(logits, 0 if mistake == "softmax over the rows" else -1)
        if mistake == "exp without the maximum":
            p = jnp.exp(logits) / jnp.exp(logits).sum(-1, keepdims=True)
        hot = jax.nn.one_hot(labels, classes, dtype=logits.dtype)
        q = (1 - SMOOTHING) * hot + SMOOTHING / classes
        d = d_y * (p - q) / rows
        match mistake:
            case "not averaged":
                d = d_y * (p - q)
            case "averaged over classes too":
                d = d / classes
            case "labels not subtracted":
                d = d_y * p / rows
            case "negated":
                d = -d
            case "incoming gradient ignored":
                d = (p - q) / rows
            case "divided by the incoming gradient":
                d = (p - q) / rows / d_y
            case "incoming gradient twice":
                d = d * d_y
            case "smoothing in the forward pass only":
                d = d_y * (p - hot) / rows
            case "smoothing added, label not lowered":
                d = d_y * (p - hot - SMOOTHING / classes) / rows
            case "gradient of the probabilities":
                d = d * p
        return d, None

    arguments = draw.normal(rows, classes), draw.ids(classes, rows)
    edges = (
        ((1000 * draw.normal(rows, classes), draw.ids(classes, rows)),) if mistake == "exp without the maximum" else ()
    )
    return Rule(function, forward, backward, arguments, edges)


CROSS_ENTROPY = Family(
    "cross entropy",
    cross_entropy,
    (
        Mistake("not averaged", "missing 1/N", "factor", "logits"),
        Mistake("averaged over classes too", "1/N too many", "factor", "logits"),
        Mistake("labels not subtracted", "a term missing", "missing term", "logits"),
        Mistake("labels counted from 1", "off by one", "shifted, as if", "logits"),
        Mistake("negated", "sign", "sign", "logits"),
        Mistake("incoming gradient ignored", "incoming gradient ignored", "cotangent ignored", "logits"),
        Mistake("divided by the incoming gradient", "incoming gradient divided by", "cotangent", "logits"),
        Mistake("incoming gradient twice", "incoming gradient twice", "cotangent", "logits"),
        Mistake("softmax over the rows", "the wrong axis", "transposed, other function, as if, unknown", "logits"),
        Mistake("exp without the maximum", "unstable", "not finite", "logits"),
        Mistake(
            "smoothing in the forward pass only",
            "label smoothing only in the forward",
            "other function, missing term, doubled term",
            "logits",
        ),
        Mistake(
            "smoothing added, label not lowered",
            "label smoothing by half",
            "region, other function, doubled term",
            "logits",
        ),
        Mistake(
            "gradient of the probabilities", "a factor too many", "extra factor, missing factor, unknown", "logits"
        ),
        Mistake("forward gives the sum", "wrong forward value", "value", "y"),
    ),
)


def _losses(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]


def _slopes(logits, labels):
    return jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def padded_cross_entropy(size: int, seed: int, mistake: str) -> Rule:
    """The mean over the positions of a batch of sequences that are no padding."""
    draw = Draw(seed)
    batch, time, classes = 3, size, size + 2

    def function(logits, labels, mask):
        return jnp.where(mask, _losses(logits, labels), 0.0).sum() / jnp.maximum(mask.sum(), 1)

    def forward(logits, labels, mask):
        return function(logits, labels, mask), (logits, labels, mask)

    def backward(residuals, d_y):
        logits, labels, mask = residuals
        count = jnp.maximum(mask.sum(), 1)
        counted = mask
        match mistake:
            case "count includes padding":
                count = mask.size
            case "division by zero":
                count = mask.sum()
            case "count of the first row":
                count = mask[0].sum()
            case "padding leaks":
                counted = jnp.ones_like(mask)
            case "padding for what counts":
                counted = ~mask
            case "first row's mask for all":
                counted = jnp.broadcast_to(mask[:1], mask.shape)
            case "mask one position late":
                counted = jnp.roll(mask, 1, -1)
        share = counted.astype(logits.dtype) * (d_y / count)
        if mistake == "mean of the rows' means":
            share = mask * (d_y / jnp.maximum(mask.sum(1, keepdims=True), 1) / batch)
        return share[..., None] * _slopes(logits, labels), None, None

    lengths = draw.random.permutation(time - 1)[:batch] + 1
    mask = np.arange(time) < lengths[:, None]
    arguments = draw.normal(batch, time, classes), draw.ids(classes, batch, time), mask
    edges = ((*arguments[:2], np.zeros_like(mask)),) if mistake == "division by zero" else ()
    return Rule(function, forward, backward, arguments, edges)


PADDED = Family(
    "padded cross entropy",
    padded_cross_entropy,
    (
        Mistake("count includes padding", "N counts padding", "factor", "logits"),
        Mistake("count of the first row", "1/N of one row", "factor", "logits"),
        Mistake("padding leaks", "padding leaks", "padding", "logits"),
        Mistake("padding for what counts", "mask inverted", "padding, as if", "logits"),
        Mistake("first row's mask for all", "mask of another row", "padding, as if, region", "logits"),
        Mistake("mask one position late", "off by one", "shifted, padding, region", "logits"),
        Mistake("division by zero", "wholly masked", "not finite", "logits"),
        Mistake(
            "mean of the rows' means", "N by row", "missing factor, extra factor, other function, unknown", "logits"
        ),
    ),
)


def weighted_cross_entropy(size: int, seed: int, mistake: str) -> Rule:
    """With a weight for each example and one for each class; gradients flow into both."""
    draw = Draw(seed)
    rows, classes = size + 1, size

    def function(logits, labels, weights, balance):
        share = weights * balance[labels]
        return (share * _losses(logits, labels)).sum() / weights.sum()

    def forward(logits, labels, weights, balance):
        return function(logits, labels, weights, balance), (logits, labels, weights, balance)

    def backward(residuals, d_y):
        logits, labels, weights, balance = residuals
        total, losses = weights.sum(), _losses(logits, labels)
        share = d_y * weights / total
        d_logits = (share * balance[labels])[:, None] * _slopes(logits, labels)
        d_weights = d_y * (balance[labels] * losses - function(*residuals)) / total
        d_balance = jnp.zeros_like(balance).at[labels].add(share * losses)
        match mistake:
            case "class weights forgotten":
                d_logits = share[:, None] * _slopes(logits, labels)
            case "example weights forgotten":
                d_logits = (d_y / total * balance[labels])[:, None] * _slopes(logits, labels)
            case "divided by the number of examples":
                d_logits = d_logits * total / rows
            case "class weights at each class":
                d_logits = share[:, None] * balance * _slopes(logits, labels)
            case "total weight as a constant":
                d_weights = d_y * balance[labels] * losses / total
            case "weights without gradient":
                d_weights = None
            case "balance overwritten":
                d_balance = jnp.zeros_like(balance).at[labels].set(share * losses)
            case "balance from unweighted losses":
                d_balance = jnp.zeros_like(balance).at[labels].add(d_y * losses / total)
        return d_logits, None, d_weights, d_balance

    labels = np.concatenate([draw.ids(classes, rows - 2), [1, 1]]).astype(np.int32)
    return Rule(
        function, forward, backward, (draw.normal(rows, classes), labels, draw.positive(rows), draw.positive(classes))
    )


WEIGHTED = Family(
    "weighted cross entropy",
    weighted_cross_entropy,
    (
        Mistake("class weights forgotten", "a factor forgotten", "missing factor", "logits"),
        Mistake("example weights forgotten", "a factor forgotten", "missing factor", "logits"),
        Mistake("divided by the number of examples", "1/N for 1/sum of weights", "factor", "logits"),
        Mistake(
            "class weights at each class",
            "a factor at the wrong index",
            "missing factor, extra factor, as if, unknown",
            "logits",
        ),
        Mistake("total weight as a constant", "a term missing", "missing term", "weights"),
        Mistake("weights without gradient", "gradient lost", "missing", "weights"),
        Mistake("balance overwritten", "duplicate ids overwritten", "duplicates", "balance"),
        Mistake("balance from unweighted losses", "a factor forgotten", "missing factor", "balance"),
    ),
)


def squared_error(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)

    def function(prediction, target):
        return jnp.mean(jnp.square(prediction - target))

    def forward(prediction, target):
        return function(prediction, target), (prediction, target)

    def backward(residuals, d_y):
        prediction, target = residuals
        d = 2 * d_y * (prediction - target) / prediction.size
        d_target = -d
        match mistake:
            case "no factor 2":
                d = d / 2
            case "not averaged":
                d = d * prediction.size
            case "averaged over the batch alone":
                d = d * prediction.shape[1]
            case "target like prediction":
                d_target = -d_target
            case "target without gradient":
                d_target = None
            case "absolute error":
                d = jnp.abs(d) * jnp.sign(d_y)
            case "from the prediction alone":
                d = 2 * d_y * prediction / prediction.size
        return d, d_target

    return Rule(function, forward, backward, (draw.normal(size, size + 1), draw.normal(size, size + 1)))


SQUARED = Family(
    "squared error",
    squared_error,
    (
        Mistake("no factor 2", "factor", "factor", "prediction"),
        Mistake("not averaged", "missing 1/N", "factor", "prediction"),
        Mistake("averaged over the batch alone", "1/N of one axis", "factor", "prediction"),
        Mistake("target like prediction", "sign", "sign", "target"),
        Mistake("target without gradient", "gradient lost", "missing", "target"),
        Mistake("absolute error", "sign lost", "region, other function, unknown", "prediction"),
        Mistake("from the prediction alone", "a term missing", "missing term, as if", "prediction"),
    ),
)

DELTA = 0.5


def robust_error(size: int, seed: int, mistake: str) -> Rule:
    """Huber's loss of residuals plus their absolute value: a bend at delta, and a kink at 0."""
    draw = Draw(seed)

    def function(prediction, target):
        size = jnp.abs(prediction - target)
        return jnp.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum()

    def forward(prediction, target):
        return function(prediction, target), prediction - target

    def backward(error, d_y):
        small = jnp.abs(error) <= DELTA
        slope = jnp.where(small, error, DELTA * jnp.sign(error))
        match mistake:
            case "never linear":
                slope = error
            case "delta forgotten in the linear part":
                slope = jnp.where(small, error, jnp.sign(error))
            case "sign forgotten in the linear part":
                slope = jnp.where(small, error, DELTA)
            case "parts exchanged":
                slope = jnp.where(small, DELTA * jnp.sign(error), error)
            case "delta of 1":
                slope = jnp.clip(error, -1.0, 1.0)
        d = d_y * slope
        return d, d if mistake == "target like prediction" else -d

    error = draw.random.permutation(np.linspace(-3, 3, size * (size + 1))).reshape(size, size + 1).astype(np.float32)
    target = draw.normal(size, size + 1)
    return Rule(function, forward, backward, (target + error, target))


ROBUST = Family(
    "robust error",
    robust_error,
    (
        Mistake("never linear", "a branch forgotten", "region, other function, unknown", "prediction", "target"),
        Mistake("delta forgotten in the linear part", "factor in a branch", "region, unknown", "prediction", "target"),
        Mistake("sign forgotten in the linear part", "sign in a branch", "region, unknown", "prediction", "target"),
        Mistake("parts exchanged", "branches exchanged", "other function, unknown", "prediction", "target"),
        Mistake("delta of 1", "another hyper-parameter", "other function, region, unknown", "prediction", "target"),
        Mistake("target like prediction", "sign", "sign", "target"),
    ),
)


def absolute_error(size: int, seed: int, mistake: str) -> Rule:
    draw = Draw(seed)

    def function(prediction, target):
        return jnp.abs(prediction - target).mean()

    def forward(prediction, target):
        return function(prediction, target), prediction - target

    def backward(error, d_y):
        slope = jnp.where(error >= 0, 1.0, -1.0).astype(error.dtype)  # what JAX takes for the derivative of abs
        match mistake:
            case "0 at equality":
                slope = jnp.sign(error)
            case "divided by the error":
                slope = error / jnp.abs(error)
        d = d_y * slope / error.size
        return d, -d

    prediction, target = draw.normal(size, size + 2), draw.normal(size, size + 2)
    equal = target.copy()
    equal[::2] += 1
    return Rule(function, forward, backward, (prediction, target), ((equal, target),))


ABSOLUTE = Family(
    "absolute error",
    absolute_error,
    (
        Mistake("0 at equality", "a kink", "ties, kink", "prediction", "target"),
        Mistake("divided by the error", "a kink", "not finite", "prediction", "target"),
    ),
)


def binary_cross_entropy(size: int, seed: int, mistake: str) -> Rule:
    """From logits, with positives that weigh more."""
    draw = Draw(seed)

    def function(logits, target, weight):
        losses = weight * target * jax.nn.softplus(-logits) + (1 - target) * jax.nn.softplus(logits)
        return losses.mean()

    def forward(logits, target, weight):
        return function(logits, target, weight), (logits, target, weight)

    def backward(residuals, d_y):
        logits, target, weight = residuals
        d, p = d_y / logits.size, jax.nn.sigmoid(logits)
        d_logits = d * ((1 - target) * p - weight * target * (1 - p))
        d_target = d * (weight * jax.nn.softplus(-logits) - jax.nn.softplus(logits))
        d_weight = d * (target * jax.nn.softplus(-logits)).sum(0)
        match mistake:
            case "weight forgotten":
                d_logits = d * (p - target)
            case "weight on negatives too":
                d_logits = d * weight * (p - target)
            case "slope of sigmoid once more":
                d_logits = d_logits * p * (1 - p)
            case "negatives forgotten":
                d_logits = -d * weight * target * (1 - p)
            case "target by the unweighted logit":
                d_target = -d * logits
            case "weight not summed":
                d_weight = d * target * jax.nn.softplus(-logits)
            case "averaged by row":
                d_logits = d_logits * logits.shape[0]
        return d_logits, d_target, d_weight

    arguments = draw.normal(size, size), draw.unit(size, size), draw.positive(size) + 1
    return Rule(function, forward, backward, arguments)


BINARY = Family(
    "binary cross entropy",
    binary_cross_entropy,
    (
        Mistake(
            "weight forgotten", "a factor forgotten", "missing factor, missing term, other function, as if", "logits"
        ),
        Mistake(
            "weight on negatives too",
            "a factor too many",
            "extra factor, doubled term, other function, unknown",
            "logits",
        ),
        Mistake("slope of sigmoid once more", "a factor too many", "extra factor, unknown", "logits"),
        Mistake("negatives forgotten", "a term missing", "missing term", "logits"),
        Mistake(
            "target by the unweighted logit", "a factor forgotten", "missing factor, other function, as if", "target"
        ),
        Mistake("weight not summed", "a broadcast axis not summed", "missing sum", "weight", says=("axis 0",)),
        Mistake("averaged by row", "1/N of one axis", "factor", "logits"),
    ),
)


def divergence(size: int, seed: int, mistake: str) -> Rule:
    """Kullback and Leibler's, of rows p from rows q."""
    draw = Draw(seed)

    def function(p, q):
        return (p * (jnp.log(p) - jnp.log(q))).sum(-1)

    def forward(p, q):
        return function(p, q), (p, q)

    def backward(residuals, d_y):
        p, q = residuals
        d = d_y[:, None]
        d_p, d_q = d * (jnp.log(p / q) + 1), -d * p / q
        match mistake:
            case "p log p as linear":
                d_p = d * jnp.log(p / q)
            case "q without p":
                d_q = -d / q
            case "q without division":
                d_q = -d * p
            case "p for q":
                d_p, d_q = d_q, d_p
            case "q's sign":
                d_q = -d_q
        return d_p, d_q

    return Rule(function, forward, backward, (draw.shares(size, size), draw.shares(size, size)))


DIVERGENCE = Family(
    "divergence",
    divergence,
    (
        Mistake("p log p as linear", "a term missing", "missing term", "p"),
        Mistake("q without p", "a factor forgotten", "missing factor", "q"),
        Mistake("q without division", "a factor forgotten", "missing factor, extra factor", "q"),
        Mistake("p for q", "two leaves swapped", "swapped", "p", "q"),
        Mistake("q's sign", "sign", "sign", "q"),
    ),
)


def contrastive(size: int, seed: int, mistake: str) -> Rule:
    """Cross entropy of the scaled cosines of pairs, each row's own pair its label."""
    draw = Draw(seed)

    def unit(a):
        return a / jnp.linalg.norm(a, axis=-1, keepdims=True)

    def function(images, texts, temperature):
        scores = unit(images) @ unit(texts).T / temperature
        return -jnp.diagonal(jax.nn.log_softmax(scores)).mean()

    def forward(images, texts, temperature):
        return function(images, texts, temperature), (images, texts, temperature)

    def through_unit(a, d):
        n = unit(a)
        along = (n * d).sum(-1, keepdims=True)
        return (d - n * along) / jnp.linalg.norm(a, axis=-1, keepdims=True)

    def backward(residuals, d_y):
        images, texts, temperature = residuals
        a, b = unit(images), unit(texts)
        scores = a @ b.T / temperature
        d_scores = d_y * (jax.nn.softmax(scores) - jnp.eye(len(a), dtype=a.dtype)) / len(a)
        d_a, d_b = d_scores @ b / temperature, d_scores.T @ a / temperature
        d_images, d_texts = through_unit(images, d_a), through_unit(texts, d_b)
        d_temperature = -(d_scores * scores).sum() / temperature
        match mistake:
            case "norm as a constant":
                d_images = d_a / jnp.linalg.norm(images, axis=-1, keepdims=True)
            case "not divided by the norm":
                d_images = d_a - a * (a * d_a).sum(-1, keepdims=True)
            case "projection added":
                d_images = (2 * d_a / jnp.linalg.norm(images, axis=-1, keepdims=True)) - d_images
            case "scores untransposed for texts":
                d_texts = through_unit(texts, d_scores @ a / temperature)
            case "temperature multiplied":
                d_texts = d_texts * temperature**2
            case "temperature's sign":
                d_temperature = -d_temperature
            case "temperature's square forgotten":
                d_temperature = -(d_scores * scores).sum()
            case "negatives of the row only":
                d_texts = through_unit(texts, jnp.diagonal(d_scores)[:, None] * a / temperature)
        return d_images, d_texts, d_temperature

    arguments = draw.normal(size, size), draw.normal(size, size), np.float32(0.3 + 0.5 * draw.random.random())
    return Rule(function, forward, backward, arguments)


CONTRASTIVE = Family(
    "contrastive",
    contrastive,
    (
        Mistake("norm as a constant", "a term missing", "missing term", "images"),
        Mistake("not divided by the norm", "a factor forgotten", "missing factor", "images"),
        Mistake("projection added", "sign of a term", "doubled term", "images"),
        Mistake("scores untransposed for texts", "dW = dy x", "transposed", "texts"),
        Mistake("temperature multiplied", "multiplied for divided", "factor, extra factor", "texts"),
        Mistake("temperature's sign", "sign", "sign", "temperature"),
        Mistake("temperature's square forgotten", "factor", "factor, missing factor", "temperature"),
        Mistake("negatives of the row only", "only the diagonal", "missing term, missing sum, unknown", "texts"),
    ),
)

_IMPOSSIBLE = -1e30


def alignment(size: int, seed: int, mistake: str) -> Rule:
    """Connectionist temporal classification (Graves et al. 2006) of one sequence, blank 0, from log-probabilities."""
    draw = Draw(seed)
    time, count, classes = min(size, 12) + 3, 3, min(size, 12)

    def skips(labels):
        extended = jnp.zeros(2 * count + 1, labels.dtype).at[1::2].set(labels)
        may = jnp.zeros(2 * count + 1, bool).at[3::2].set(labels[1:] != labels[:-1])
        return extended, may

    def step(before, may):
        """log-sums over the three ways to each state."""
        one = jnp.concatenate([jnp.full(1, _IMPOSSIBLE, before.dtype), before[:-1]])
        two = jnp.where(may, jnp.concatenate([jnp.full(2, _IMPOSSIBLE, before.dtype), before[:-2]]), _IMPOSSIBLE)
        return jax.nn.logsumexp(jnp.stack([before, one, two]), axis=0)

    def alphas(log_probs, labels):
        extended, may = skips(labels)
        emitted = log_probs[:, extended]
        first = jnp.full(2 * count + 1, _IMPOSSIBLE, log_probs.dtype).at[:2].set(emitted[0, :2])

        def advance(alpha, row):
            alpha = step(alpha, may) + row
            return alpha, alpha

        _, rest = lax.scan(advance, first, emitted[1:])
        return jnp.concatenate([first[None], rest])

    def function(log_probs, labels):
        return -jax.nn.logsumexp(alphas(log_probs, labels)[-1, -2:])

    def forward(log_probs, labels):
        return function(log_probs, labels), (log_probs, labels)

    def backward(residuals, d_y):
        log_probs, labels = residuals
        extended, may = skips(labels)
        emitted = log_probs[:, extended]
        ends = 1 if mistake == "must end in a blank" else 2
        last = jnp.full(2 * count + 1, _IMPOSSIBLE, log_probs.dtype).at[-ends:].set(0.0)
        # Backwards a state is left as it is entered: the same steps on the reversed states.
        leaves_by_two = jnp.concatenate([may[2:], jnp.zeros(2, bool)])
        if mistake == "repeats without a blank between":
            leaves_by_two = jnp.zeros(2 * count + 1, bool).at[1:-2:2].set(True)

        def retreat(beta, row):
            beta = step((beta + row)[::-1], leaves_by_two[::-1])[::-1]
            return beta, beta

        _, rest = lax.scan(retreat, last, emitted[1:], reverse=True)
        alpha = alphas(log_probs, labels)
        joint = alpha + jnp.concatenate([rest, last[None]])
        occupied = jnp.exp(joint - jax.nn.logsumexp(alpha[-1, -2:]))
        if mistake == "emission counted twice":
            occupied = occupied * jnp.exp(emitted)
        d = jnp.zeros_like(log_probs)
        d = d.at[:, extended].set(-occupied) if mistake == "states overwritten" else d.at[:, extended].add(-occupied)
        match mistake:
            case "gradient for logits":
                d = jax.nn.softmax(log_probs) + d
            case "blank forgotten":
                d = d.at[:, 0].set(0.0)
            case "averaged over time":
                d = d / time
            case "negated":
                d = -d
        return d_y * d, None

    labels = np.array([1, 2, 2], np.int32) if seed % 2 else np.array([1, 1, 2], np.int32)
    logits = draw.normal(time, classes)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return Rule(function, forward, backward, (log_probs, labels))


ALIGNMENT = Family(
    "alignment",
    alignment,
    (
        Mistake(
            "gradient for logits",
            "CTC gradient for logits returned for log-probabilities",
            "other function, doubled term, unknown",
            "log_probs",
        ),
        Mistake(
            "repeats without a blank between", "CTC with repeats", "duplicates, other function, unknown", "log_probs"
        ),
        Mistake("states overwritten", "duplicate ids overwritten", "duplicates, region, missing term", "log_probs"),
        Mistake("blank forgotten", "a part dropped", "region", "log_probs"),
        Mistake(
            "must end in a blank", "a term missing", "missing term, partial sum, other function, unknown", "log_probs"
        ),
        Mistake("averaged over time", "1/N too many", "factor", "log_probs"),
        Mistake("negated", "sign", "sign", "log_probs"),
        Mistake("emission counted twice", "a factor too many", "extra factor", "log_probs"),
    ),
)

FAMILIES = (
    CROSS_ENTROPY,
    PADDED,
    WEIGHTED,
    SQUARED,
    ROBUST,
    ABSOLUTE,
    BINARY,
    DIVERGENCE,
    CONTRASTIVE,
    ALIGNMENT,
)
