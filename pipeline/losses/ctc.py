"""Connectionist temporal classification (CTC): the loss of a label sequence whose alignment with frames is unknown."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..layers.base import Context, PyTree, reduction_dtype, vary_like
from ..layers.lookup import in_range, require_ids
from . import scaled_float
from .base import Loss, Targets
from .scaled_float import ScaledFloat


class Transcripts(NamedTuple):
    """The ``values`` of CTC's targets: label sequences, and the number of frames of each utterance.

    labels: int (batch, labels), the symbols of each row; entries from its length on may be anything.
    lengths: int (batch,), the number of labels of each row; 0 is silence.
    frames: int (batch,), the number of output frames of each row that are not padding, after the model's strides; or
        bool (batch, frames), True at these frames, wherever they are.
    """

    labels: Any
    lengths: Any
    frames: Any


Inputs = tuple[Float[Array, "batch frames symbols"], Targets]


@dataclass(frozen=True)
class CTC(Loss):
    """The mean of -log p(l | z) over rows of logits z (batch, frames, symbols) (Graves et al. 2006).

    An alignment assigns a symbol or the blank to every frame. Removing its repeats, and then its blanks, gives the
    labels it reads as. p(l | z) is the sum of the probabilities of all alignments that read as l, each of which is the
    product of the softmax of its frames. The targets' values are ``Transcripts``; their weights are those of the rows.

    blank: the index of the blank among the symbols; no label may be the blank. A row with such a label, or with one
        that is no symbol, or with more labels or frames than there is room for, has loss and gradient NaN, see
        ``losses.base``.
    infeasible: the loss of rows that have no alignment, as they have fewer frames than labels, plus one for each
        pair of equal neighbours: "infinite" or "zero". Their gradient is zero.
    reduction: "mean", or "none": the weighted loss of every row.

    >>> logits = jnp.zeros((1, 2, 3))  # every symbol has the probability 1/3 in both frames
    >>> targets = Targets(Transcripts(jnp.array([[1]]), jnp.array([1]), jnp.array([2])))
    >>> loss = CTC().apply({}, (logits, targets), Context())
    >>> round(float(jnp.exp(-loss)), 4)  # 3 of 9 alignments read as the label 1: (1, 1), (1, blank), (blank, 1)
    0.3333
    """

    blank: int = 0
    infeasible: str = "infinite"
    reduction: str = "mean"

    def __post_init__(self) -> None:
        self.check_reduction()
        if self.infeasible not in ("infinite", "zero"):
            raise ValueError(f"CTC.infeasible is {self.infeasible!r}; it must be 'infinite' or 'zero'")

    def elements(self, targets: Targets) -> Array:
        return targets.values.lengths

    def _rows(self, x: Inputs) -> tuple[Array, Transcripts, Array]:
        """Logits in the dtype of sums, transcripts, and normalised weights, with 0 and blanks in place of padding.

        The transcripts' frames are a mask (batch, frames). Weights are NaN where a row's transcript is impossible.
        """
        logits, targets = x
        labels, lengths, frames = targets.values
        frames_fit = frames.shape == logits.shape[: 2 if frames.dtype == bool else 1]
        if (
            logits.ndim != 3
            or labels.ndim != 2
            or not frames_fit
            or not labels.shape[:1] == lengths.shape == logits.shape[:1]
        ):
            raise ValueError(
                f"CTC: logits of shape {logits.shape} for labels of shape {labels.shape}, lengths {lengths.shape} and "
                f"frames {frames.shape}; they must be (batch, frames, symbols), (batch, labels), (batch,) and (batch,) "
                "(a mask of frames: (batch, frames))"
            )
        dtype = reduction_dtype(logits.dtype)
        weights = self.normalized_weights(targets, dtype)
        mask = (frames if frames.dtype == bool else _before(frames, logits.shape[1])) & (weights != 0)[:, None]
        lengths = jnp.where(weights == 0, 0, lengths)
        require_ids(self, "length", lengths, labels.shape[1] + 1)
        fits = in_range(lengths, labels.shape[1] + 1)
        if frames.dtype != bool:
            frames = jnp.where(weights == 0, 0, frames)
            require_ids(self, "number of frames", frames, logits.shape[1] + 1)
            fits &= in_range(frames, logits.shape[1] + 1)
        within = _before(lengths, labels.shape[1])
        require_ids(self, "label", labels, logits.shape[-1], where=within, excluded=self.blank)
        fits &= (~within | (in_range(labels, logits.shape[-1]) & (labels != self.blank))).all(-1)
        weights = jnp.where(fits, weights, jnp.nan)
        lengths = jnp.where(fits, lengths, 0)
        labels = jnp.where(within & fits[:, None], labels, self.blank)
        z = jnp.where(mask[..., None], logits.astype(dtype), 0.0)
        return z, Transcripts(labels, lengths, mask), weights

    def _output(self, log_p: Array, weights: Array) -> Array:
        losses = jnp.where(log_p == -jnp.inf, jnp.inf if self.infeasible == "infinite" else 0.0, -log_p)
        return self.reduce(weights * jnp.where(weights == 0, 0.0, losses))

    def apply(self, params: dict, x: Inputs, context: Context) -> Array:
        """The forward variables in log space: log alpha_t(s), over the states of l with blanks around each label."""
        del params, context
        z, (labels, lengths, frames), weights = self._rows((x[0], lax.stop_gradient(x[1])))
        batch, size = labels.shape
        states = jnp.full((batch, 2 * size + 1), self.blank, labels.dtype).at[:, 1::2].set(labels)
        z = z - lax.stop_gradient(z.max(-1, keepdims=True))
        log_y = z - jnp.log(jnp.exp(z).sum(-1, keepdims=True))
        log_y = jnp.take_along_axis(log_y, states[:, None], -1)
        skips = jnp.zeros(states.shape, bool).at[:, 3::2].set(labels[:, 1:] != labels[:, :-1])

        def step(log_alpha: Array, frame: tuple[Array, Array]) -> tuple[Array, None]:
            log_y, counts = frame
            one, two = (jnp.pad(log_alpha, ((0, 0), (n, 0)), constant_values=-jnp.inf) for n in (1, 2))
            ways = jnp.stack([log_alpha, one[:, :-1], jnp.where(skips, two[:, :-2], -jnp.inf)])
            return jnp.where(counts, _log_sum(ways) + log_y, log_alpha), None

        # Every alignment starts at the first blank; the first frame stays there or moves to the first label.
        start = vary_like(jnp.full(states.shape, -jnp.inf, z.dtype).at[:, 0].set(0.0), x)
        log_alpha, _ = lax.scan(step, start, (log_y.swapaxes(0, 1), _counts(frames)))
        at_blank = jnp.take_along_axis(log_alpha, 2 * lengths[:, None], 1)[:, 0]
        at_label = jnp.take_along_axis(log_alpha, jnp.maximum(2 * lengths[:, None] - 1, 0), 1)[:, 0]
        return self._output(_log_sum(jnp.stack([at_blank, jnp.where(lengths == 0, -jnp.inf, at_label)])), weights)

    def forward(self, params: dict, x: Inputs, context: Context) -> tuple[Array, PyTree]:
        """Computes the forward variables (Graves et al. 2006, section 4.1), those of labels apart from those of blanks:

        (1) alpha_t(n) = y_t(l_n)   (alpha_{t-1}(n) + b_{t-1}(n-1) + [l_n is not l_{n-1}] alpha_{t-1}(n-1))
        (2) b_t(n)     = y_t(blank) (b_{t-1}(n) + alpha_{t-1}(n))
        (3) p          = b_T(N) + alpha_T(N)

        y_t is the softmax of frame t. alpha(n) belongs to the n-th label, n = 1 ... N, and b(n) to the blank after it;
        b(0) belongs to the first blank, where every alignment starts. The numbers are ``ScaledFloat``s and not
        logarithms: a step then has no exponentials but those of y, and over 800 frames in float32 the gradient has two
        more correct digits.
        """
        del params, context
        z, (labels, lengths, frames), weights = self._rows(x)
        largest = z.max(-1, keepdims=True)
        log_sum = jnp.log(jnp.exp(z - largest).sum(-1, keepdims=True))
        y_labels, y_blank = self._log2_y(z - largest - log_sum, labels)
        different = _different(labels)

        def step(
            carry: tuple[ScaledFloat, ScaledFloat], frame: tuple[Array, Array, Array]
        ) -> tuple[tuple[ScaledFloat, ScaledFloat], ScaledFloat]:
            alpha, b = carry  # alpha(0) = 0 to alpha(N), and b(0) to b(N)
            y_labels, y_blank, counts = frame
            here, one_before = scaled_float.without_first(alpha), scaled_float.without_last(alpha)
            ways = scaled_float.add(here, scaled_float.without_last(b), scaled_float.where(different, one_before))
            new = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_labels), ways), here
            )  # (1)
            new_b = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_blank), scaled_float.add(b, alpha)), b
            )  # (2)
            # Stacks the alpha that the step reads: of the new one, XLA would make a copy to stack.
            return (scaled_float.pad(new, 1, 0), new_b), alpha

        start = _one_at(jnp.full_like(lengths, -1), labels, z), _one_at(jnp.zeros_like(lengths), labels, z)
        start = vary_like(start, x)
        (alpha, b), before = lax.scan(step, start, (y_labels, y_blank, _counts(frames)))
        at_end = [
            ScaledFloat(*(jnp.take_along_axis(a, lengths[:, None], 1)[:, 0] for a in part)) for part in (b, alpha)
        ]
        p = scaled_float.add(*at_end)  # (3)
        return self._output(scaled_float.log(p), weights), (x, largest, log_sum, before, alpha, p)

    def _log2_y(self, log_y: Array, labels: Array) -> tuple[Float[Array, "frames batch labels"], Array]:
        """The base-2 logarithms of the probabilities of every label, and of the blank, in every frame."""
        log2_y = log_y.swapaxes(0, 1) * jnp.asarray(1 / np.log(2), log_y.dtype)
        places = jnp.broadcast_to(labels[None], (log2_y.shape[0], *labels.shape))
        y_labels = jnp.take_along_axis(log2_y, places, -1, mode="promise_in_bounds")
        return y_labels, log2_y[..., self.blank, None]

    def backward(
        self, params: dict, residuals: PyTree, d_y: Array
    ) -> tuple[dict, tuple[Float[Array, "batch frames symbols"], None]]:
        """The backward variables are forward variables of the reversed sequence (Graves et al. 2006, section 4.1):

        (4) beta_t(n) = y_t(l_n)   (beta_{t+1}(n) + c_{t+1}(n) + [l_n is not l_{n+1}] beta_{t+1}(n+1))
        (5) c_t(n)    = y_t(blank) (c_{t+1}(n) + beta_{t+1}(n+1))

        with c(n) for the blank after the n-th label. Let gamma_t(n) be the probability that an alignment is at label n
        in frame t, given that it reads as l. With beta' = beta / y and the row's normalised weight w,

        (6) gamma_t(n) = alpha_t(n) beta'_t(n) / p      blanks have the rest of each frame's probability
        (7) d_z_tk     = w (y_t(k) - sum_{n: l_n = k} gamma_t(n)) d_y      (their equation 16)

        which is 0 at padding, and where p is 0. The residuals are the logits, two numbers per frame from which y is
        computed, as in ``SoftmaxCrossEntropy``, and alpha of the forward pass, two numbers per frame and label. (6)
        does not need b. beta is never stored, since (6) is computed in its scan.
        """
        del params
        x, largest, log_sum, before, last, p = residuals
        z, (labels, lengths, frames), weights = self._rows(x)
        log_y = z - largest - log_sum
        y_labels, y_blank = self._log2_y(log_y, labels)
        different = jnp.pad(_different(labels), ((0, 0), (0, 1)))[:, 1:]
        row_p = ScaledFloat(*(part[:, None] for part in p))

        def step(
            carry: tuple[ScaledFloat, ScaledFloat, ScaledFloat], frame: tuple[Array, Array, Array, ScaledFloat]
        ) -> tuple[tuple[ScaledFloat, ScaledFloat, ScaledFloat], Array]:
            beta, c, alpha = carry  # beta(1) to beta(N+1) = 0, c(0) to c(N), and alpha as in the forward pass
            y_labels, y_blank, counts, alpha_before = frame
            here, one_after = scaled_float.without_last(beta), scaled_float.without_first(beta)
            ways = scaled_float.add(here, scaled_float.without_first(c), scaled_float.where(different, one_after))
            gamma = jnp.where(counts, scaled_float.ratio(scaled_float.without_first(alpha), ways, row_p), 0.0)  # (6)
            new = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_labels), ways), here
            )  # (4)
            new_c = scaled_float.select(
                counts, scaled_float.multiply(scaled_float.power_of_two(y_blank), scaled_float.add(c, beta)), c
            )  # (5)
            return (scaled_float.pad(new, 0, 1), new_c, alpha_before), gamma

        start = _one_at(jnp.full_like(lengths, -1), labels, z), _one_at(lengths, labels, z), last
        counts = _counts(frames)
        _, gamma = lax.scan(step, vary_like(start, residuals), (y_labels, y_blank, counts, before), reverse=True)

        symbols = jnp.arange(z.shape[-1], dtype=labels.dtype)[None, None]
        d_labels = jnp.einsum(
            "tbn,bnk->btk", gamma, (labels[..., None] == symbols).astype(z.dtype), precision="highest"
        )
        d_blank = (1 - gamma.sum(-1)).swapaxes(0, 1)[..., None] * (symbols == self.blank).astype(z.dtype)
        weights = d_y * jnp.where(scaled_float.log(p) == -jnp.inf, 0.0, weights)
        weights = jnp.where(counts.swapaxes(0, 1), weights[:, None, None], 0.0)
        d_z = weights * (jnp.exp(log_y) - d_labels - d_blank)  # (7)
        return {}, (d_z.astype(x[0].dtype), None)


def _before(lengths: Int[Array, " batch"], size: int) -> Bool[Array, "batch size"]:
    """True at the first ``length`` of ``size`` positions of each row."""
    return jnp.arange(size, dtype=lengths.dtype)[None] < lengths[:, None]


def _one_at(place: Int[Array, " batch"], labels: Int[Array, "batch labels"], like: Array) -> ScaledFloat:
    """1 at each row's ``place`` in 0 to N and 0 elsewhere; all 0 for a place outside of this range."""
    return scaled_float.ones(jnp.arange(labels.shape[1] + 1, dtype=place.dtype)[None] == place[:, None], like.dtype)


def _counts(frames: Bool[Array, "batch frames"]) -> Bool[Array, "frames batch 1"]:
    return frames.swapaxes(0, 1)[..., None]


def _different(labels: Int[Array, "batch labels"]) -> Bool[Array, "batch labels"]:
    """True where a label differs from the one before it, so that no blank need separate them; False for the first."""
    return jnp.pad(labels[:, 1:] != labels[:, :-1], ((0, 0), (1, 0)))[:, : labels.shape[1]]


def _log_sum(terms: Float[Array, "terms *shape"]) -> Float[Array, "*shape"]:
    """log sum_i exp(terms_i): minus infinity if all terms are, with finite derivatives even then."""
    largest = lax.stop_gradient(terms.max(0))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    total = jnp.exp(terms - largest[None]).sum(0)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1.0, total)) + largest)
