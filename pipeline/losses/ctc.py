"""Connectionist temporal classification: the loss of a sequence whose alignment to the frames nobody knows."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from pipeline.layers.base import Context, PyTree, reduction_dtype
from pipeline.losses import scaled_float
from pipeline.losses.base import Loss, Targets
from pipeline.losses.scaled_float import ScaledFloat


class Transcripts(NamedTuple):
    """What the frames of a batch are to be read as: the ``values`` of CTC's targets.

    labels: int, (batch, labels), each row's symbols from its start; what stands behind its length may be anything.
    lengths: int, (batch,), how many labels of each row count; 0: silence.
    frames: int, (batch,), how many frames of each row's outputs count, after whatever strides the model has.
    """

    labels: Any
    lengths: Any
    frames: Any


Inputs = tuple[Float[Array, "batch frames symbols"], Targets]


@dataclass(frozen=True)
class CTC(Loss):
    """The mean of -log p(l | z) over rows of logits z (batch, frames, symbols) (Graves et al. 2006).

    An alignment gives every frame a symbol or the blank; without repeats, and then without blanks, it reads as l. p is
    the sum over all alignments that read as l, and an alignment's probability is the product of its frames' softmax.
    The targets' values are ``Transcripts``, its weights one for each row.

    blank: the blank's place among the symbols; no label has it.
    infeasible: what the loss is where there are fewer frames than labels and blanks between equal ones, so that p is 0:
        "infinite", or "zero". The gradient is zero.
    """

    blank: int = 0
    infeasible: str = "infinite"

    def __post_init__(self) -> None:
        if self.infeasible not in ("infinite", "zero"):
            raise ValueError(f"CTC.infeasible is {self.infeasible!r}; it must be 'infinite' or 'zero'")

    def judged(self, targets: Targets) -> Array:
        return targets.values.lengths

    def _rows(self, x: Inputs) -> tuple[Array, Transcripts, Array]:
        """Logits in the dtype of sums, transcripts and shares, with zeros and blanks at padding: it reaches nothing."""
        logits, targets = x
        labels, lengths, frames = targets.values
        shapes = logits.shape[:1], labels.shape[:1], lengths.shape, frames.shape
        if logits.ndim != 3 or labels.ndim != 2 or len(set(shapes)) > 1:
            raise ValueError(
                f"CTC: logits of shape {logits.shape} for labels of shape {labels.shape}, lengths {lengths.shape} and "
                f"frames {frames.shape}; they must be (batch, frames, symbols), (batch, labels), (batch,) and (batch,)"
            )
        dtype = reduction_dtype(logits.dtype)
        shares = self.shares(targets, dtype)
        lengths, frames = (jnp.where(shares == 0, 0, numbers) for numbers in (lengths, frames))
        labels = jnp.where(_before(lengths, labels.shape[1]), labels, self.blank)
        z = jnp.where(_before(frames, logits.shape[1])[..., None], logits.astype(dtype), 0.0)
        return z, Transcripts(labels, lengths, frames), shares

    def _mean(self, log_p: Array, shares: Array) -> Float[Array, ""]:
        losses = jnp.where(log_p == -jnp.inf, jnp.inf if self.infeasible == "infinite" else 0.0, -log_p)
        return (shares * jnp.where(shares == 0, 0.0, losses)).sum()

    def apply(self, params: dict, x: Inputs, context: Context) -> Float[Array, ""]:
        """The forward variables in log space: log alpha_t(s), over the states of l with blanks around each label."""
        del params, context
        z, (labels, lengths, frames), shares = self._rows((x[0], lax.stop_gradient(x[1])))
        batch, size = labels.shape
        states = jnp.full((batch, 2 * size + 1), self.blank, labels.dtype).at[:, 1::2].set(labels)
        z = z - lax.stop_gradient(z.max(-1, keepdims=True))
        log_y = z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))
        log_y = jnp.take_along_axis(log_y, states[:, None], -1)
        skips = jnp.zeros(states.shape, bool).at[:, 3::2].set(labels[:, 1:] != labels[:, :-1])

        def step(log_alpha: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
            log_y, t = frame
            one, two = (jnp.pad(log_alpha, ((0, 0), (n, 0)), constant_values=-jnp.inf) for n in (1, 2))
            ways = jnp.stack([log_alpha, one[:, :-1], jnp.where(skips, two[:, :-2], -jnp.inf)])
            return jnp.where((t < frames)[:, None], _log_sum(ways) + log_y, log_alpha), None

        # Before the first frame all is at the first blank, from where the first frame stays or goes on to a label.
        start = jnp.full(states.shape, -jnp.inf, z.dtype).at[:, 0].set(0.0)
        log_alpha, _ = lax.scan(step, start, (log_y.swapaxes(0, 1), jnp.arange(z.shape[1], dtype=frames.dtype)))
        at_blank = jnp.take_along_axis(log_alpha, 2 * lengths[:, None], 1)[:, 0]
        at_label = jnp.take_along_axis(log_alpha, jnp.maximum(2 * lengths[:, None] - 1, 0), 1)[:, 0]
        return self._mean(_log_sum(jnp.stack([at_blank, jnp.where(lengths == 0, -jnp.inf, at_label)])), shares)

    def forward(self, params: dict, x: Inputs, context: Context) -> tuple[Float[Array, ""], PyTree]:
        """The forward variables (Graves et al. 2006, section 4.1), those of labels and blanks apart:

        (1) alpha_t(n) = y_t(l_n)   (alpha_{t-1}(n) + b_{t-1}(n-1) + [l_n is not l_{n-1}] alpha_{t-1}(n-1))
        (2) b_t(n)     = y_t(blank) (b_{t-1}(n) + alpha_{t-1}(n))
        (3) p          = b_T(N) + alpha_T(N)

        y_t is frame t's softmax; alpha(n) is at the n-th label, n = 1 ... N, and b(n) at the blank behind it; b(0) is
        at the first blank, where all is before the first frame. Not logarithms but ``ScaledFloat`` numbers are added up: no
        exponential in a step but y's, and over 800 frames in float32 the gradient has two more digits.
        """
        del params, context
        z, (labels, lengths, frames), shares = self._rows(x)
        largest = z.max(-1, keepdims=True)
        log_sum = jnp.log(jnp.exp(z - largest).sum(-1, keepdims=True))
        y_labels, y_blank = self._log2_y(z - largest - log_sum, labels)
        different = _different(labels)

        def step(
            carry: tuple[ScaledFloat, ScaledFloat], frame: tuple[Array, Array, Array]
        ) -> tuple[tuple[ScaledFloat, ScaledFloat], ScaledFloat]:
            alpha, b = carry  # alpha(0), which is 0, to alpha(N), and b(0) to b(N)
            y_labels, y_blank, counts = frame
            here, one_before = scaled_float.without_first(alpha), scaled_float.without_last(alpha)
            ways = scaled_float.add(here, scaled_float.without_last(b), scaled_float.where(different, one_before))
            new = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_labels), ways), here
            )  # (1)
            new_b = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_blank), scaled_float.add(b, alpha)), b
            )  # (2)
            # What a step is given is stacked, not what it makes, of which a compiler would make a second one to stack.
            return (scaled_float.pad(new, 1, 0), new_b), alpha

        start = _one_at(jnp.full_like(lengths, -1), labels, z), _one_at(jnp.zeros_like(lengths), labels, z)
        (alpha, b), before = lax.scan(step, start, (y_labels, y_blank, _counts(frames, z.shape[1])))
        at_end = [
            ScaledFloat(*(jnp.take_along_axis(a, lengths[:, None], 1)[:, 0] for a in part)) for part in (b, alpha)
        ]
        p = scaled_float.add(*at_end)  # (3)
        return self._mean(scaled_float.log(p), shares), (x, largest, log_sum, before, alpha, p)

    def _log2_y(self, log_y: Array, labels: Array) -> tuple[Float[Array, "frames batch labels"], Array]:
        """Logarithms to the base 2 of every frame's probability of every label, and of the blank."""
        log2_y = log_y.swapaxes(0, 1) * jnp.asarray(1 / np.log(2), log_y.dtype)
        places = jnp.broadcast_to(labels[None], (log2_y.shape[0], *labels.shape))
        y_labels = jnp.take_along_axis(log2_y, places, -1, mode="promise_in_bounds")
        return y_labels, log2_y[..., self.blank, None]

    def backward(
        self, params: dict, residuals: PyTree, d_y: Float[Array, ""]
    ) -> tuple[dict, tuple[Float[Array, "batch frames symbols"], None]]:
        """The backward variables are the forward ones of the sequence read from its end (Graves et al. 2006, 4.1):

        (4) beta_t(n) = y_t(l_n)   (beta_{t+1}(n) + c_{t+1}(n) + [l_n is not l_{n+1}] beta_{t+1}(n+1))
        (5) c_t(n)    = y_t(blank) (c_{t+1}(n) + beta_{t+1}(n+1))

        with c(n) at the blank behind the n-th label. An alignment at label n in frame t is a way there, y_t(l_n), and a
        way on: with beta' for beta without its factor y, and shares of p,

        (6) gamma_t(n) = alpha_t(n) beta'_t(n) / p      of the alignments at label n; at blanks are all the others
        (7) d_z_tk     = share (y_t(k) - sum_{n: l_n = k} gamma_t(n)) d_y      (their equation 16)

        which is 0 at padding, and where p is 0. Residuals: alpha, two numbers for every frame and label, from the
        forward pass; blanks' are not needed in (6). y comes from the logits by two numbers a frame, as in
        ``SoftmaxCrossEntropy``. beta is nowhere stored: (6) is taken in its scan.
        """
        del params
        x, largest, log_sum, before, last, p = residuals
        z, (labels, lengths, frames), shares = self._rows(x)
        log_y = z - largest - log_sum
        y_labels, y_blank = self._log2_y(log_y, labels)
        different = jnp.pad(_different(labels), ((0, 0), (0, 1)))[:, 1:]
        in_rows = ScaledFloat(*(part[:, None] for part in p))

        def step(
            carry: tuple[ScaledFloat, ScaledFloat, ScaledFloat], frame: tuple[Array, Array, Array, ScaledFloat]
        ) -> tuple[tuple[ScaledFloat, ScaledFloat, ScaledFloat], Array]:
            beta, c, alpha = carry  # beta(1) to beta(N+1), which is 0, c(0) to c(N), and alpha as in the forward pass
            y_labels, y_blank, counts, alpha_before = frame
            here, one_behind = scaled_float.without_last(beta), scaled_float.without_first(beta)
            ways = scaled_float.add(here, scaled_float.without_first(c), scaled_float.where(different, one_behind))
            gamma = jnp.where(counts, scaled_float.ratio(scaled_float.without_first(alpha), ways, in_rows), 0.0)  # (6)
            new = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_labels), ways), here
            )  # (4)
            new_c = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_blank), scaled_float.add(c, beta)), c
            )  # (5)
            return (scaled_float.pad(new, 0, 1), new_c, alpha_before), gamma

        start = _one_at(jnp.full_like(lengths, -1), labels, z), _one_at(lengths, labels, z), last
        counts = _counts(frames, z.shape[1])
        _, gamma = lax.scan(step, start, (y_labels, y_blank, counts, before), reverse=True)

        symbols = jnp.arange(z.shape[-1], dtype=labels.dtype)[None, None]
        of_labels = jnp.einsum(
            "tbn,bnk->btk", gamma, (labels[..., None] == symbols).astype(z.dtype), precision="highest"
        )
        of_blank = (1 - gamma.sum(-1)).swapaxes(0, 1)[..., None] * (symbols == self.blank).astype(z.dtype)
        shares = d_y * jnp.where(scaled_float.log(p) == -jnp.inf, 0.0, shares)
        shares = shares[:, None, None] * counts.swapaxes(0, 1).astype(z.dtype)
        d_z = shares * (jnp.exp(log_y) - of_labels - of_blank)  # (7)
        return {}, (d_z.astype(x[0].dtype), None)


def _before(lengths: Int[Array, " batch"], size: int) -> Bool[Array, "batch size"]:
    """Which of ``size`` places come before each row's length."""
    return jnp.arange(size, dtype=lengths.dtype)[None] < lengths[:, None]


def _one_at(place: Int[Array, " batch"], labels: Int[Array, "batch labels"], like: Array) -> ScaledFloat:
    """1 at each row's place of 0 to N, 0 at all others; 0 everywhere where the place is none of these."""
    return scaled_float.ones(jnp.arange(labels.shape[1] + 1, dtype=place.dtype)[None] == place[:, None], like.dtype)


def _counts(frames: Int[Array, " batch"], size: int) -> Bool[Array, "size batch 1"]:
    return _before(frames, size).swapaxes(0, 1)[..., None]


def _different(labels: Int[Array, "batch labels"]) -> Bool[Array, "batch labels"]:
    """Whether a label differs from the one before it, so that no blank need stand between; the first has none."""
    return jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 0)))[:, : labels.shape[1]]


def _log_sum(terms: Float[Array, "terms *shape"]) -> Float[Array, "*shape"]:
    """log sum_i exp(terms_i), minus infinity where all terms are, with derivatives that are finite there too."""
    largest = lax.stop_gradient(terms.max(0))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.exp(terms - largest[None]).sum(0)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1.0, total)) + largest)
