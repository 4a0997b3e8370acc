"""Step 5 of backpropagation: how gradients become new parameters. The optimisers and schedules are optax's.

Layers declare which of their parameters weight decay applies to, and which are statistics that no optimiser changes.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import jax

from ..layers.base import Layer, PyTree, layers_around, parameter_roles
from ..layers.repeat import Repeat
from ..options import require, require_at_least, require_numbers, require_shares

if TYPE_CHECKING:
    import optax
    from optax.contrib import MuonDimensionNumbers

SMALLEST_RATE = 1e-30
"""The smallest learning rate: much smaller ones are 0 in float32, and nothing would be learned."""


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become new parameters."""

    name: Literal["sgd", "adamw", "lion", "muon"] = "adamw"
    """Update rule. muon turns kernels into orthogonal updates and gives everything else to adamw."""
    learning_rate: float = 1e-3
    """Largest learning rate of the schedule."""
    momentum: float = 0.9
    """Decay of the mean gradient; sgd's and muon's is Nesterov's."""
    weight_decay: float = 0.0
    """Weight decay of kernels and of recommenders' embeddings, times the learning rate."""
    clip: float = 0.0
    """Largest norm of the whole gradient; longer ones are scaled down to it. 0: no limit."""
    schedule: Literal["constant", "cosine", "piecewise", "one_cycle"] = "cosine"
    """Learning rate after the warm-up: constant, cosine to 0, a tenth at 60 % and again at 85 %, or one cycle."""
    warmup: float = 0.05
    """Share of all steps in which the learning rate rises to its largest value."""

    def __post_init__(self) -> None:
        require_numbers(self, "optimizer.")
        require(self.learning_rate >= SMALLEST_RATE, self, "learning_rate", f"at least {SMALLEST_RATE}", "optimizer.")
        require_at_least(self, weight_decay=0, clip=0, group="optimizer.")
        require_shares(self, "momentum", "warmup", group="optimizer.")


def make_schedule(config: OptimizerConfig, total_steps: int) -> "optax.Schedule":
    """The learning rate as a function of the number of steps taken so far."""
    import optax

    peak, warm = config.learning_rate, round(config.warmup * total_steps)
    if config.schedule == "one_cycle":  # Smith & Topin 2019; its rise is the warm-up
        return optax.cosine_onecycle_schedule(total_steps, peak, pct_start=config.warmup)
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(total_steps - warm, 1))
    elif config.schedule == "piecewise":
        drops = {round(share * total_steps) - warm: 0.1 for share in (0.6, 0.85)}
        after = optax.piecewise_constant_schedule(peak, drops)
    else:
        after = optax.constant_schedule(peak)
    # The rise starts one increment above 0: a step with learning rate 0 would be a step lost.
    rise = optax.linear_schedule(peak / (warm + 1), peak, warm)
    return optax.join_schedules([rise, after], [warm]) if warm else after


def make_optimizer(
    config: OptimizerConfig, objective: Layer, params: PyTree, total_steps: int
) -> "optax.GradientTransformation":
    """The optimiser of ``objective``'s parameters over ``total_steps`` steps."""
    import optax

    roles = parameter_roles(objective, params)
    groups = jax.tree.map(lambda role: "statistic" if role == "statistic" else "trained", roles)
    rule = _rule(config, objective, total_steps)
    rule = optax.partition({"trained": rule, "statistic": optax.set_to_zero()}, groups)
    return optax.chain(optax.clip_by_global_norm(config.clip), rule) if config.clip else rule


def require_optimizer(optimizer: Any) -> None:
    """Raises ValueError if ``optimizer`` is none of optax's kind: a pair of the functions init and update."""
    if all(callable(getattr(optimizer, name, None)) for name in ("init", "update")) and not isinstance(optimizer, type):
        return
    what = "the function" if callable(optimizer) else f"a {type(optimizer).__name__}:"
    value = getattr(optimizer, "__name__", optimizer)
    remedy = "call it" if callable(optimizer) else "give an optax optimiser"
    raise ValueError(f"optimizer is {what} {value!s:.60}; {remedy}, as in optimizer=optax.adam(1e-3)")


def for_trained(optimizer: "optax.GradientTransformation", objective: Layer, params: PyTree) -> Any:
    """``optimizer``, restricted to the parameters that it may change: those that are no statistics of BatchNorm."""
    import optax

    roles = parameter_roles(objective, params)
    if "statistic" not in jax.tree.leaves(roles):
        return optimizer
    groups = jax.tree.map(lambda role: "statistic" if role == "statistic" else "trained", roles)
    return optax.partition({"trained": optimizer, "statistic": optax.set_to_zero()}, groups)


def _rule(config: OptimizerConfig, objective: Layer, total_steps: int) -> "optax.GradientTransformation":
    import optax
    from optax.contrib import muon

    rate, decay, momentum = make_schedule(config, total_steps), config.weight_decay, config.momentum

    def decayed(params: PyTree) -> PyTree:
        return jax.tree.map(lambda role: role == "decayed", parameter_roles(objective, params))

    if config.name == "sgd":
        momentum_or_none = momentum or None
        return optax.chain(
            optax.add_decayed_weights(decay, decayed), optax.sgd(rate, momentum_or_none, nesterov=momentum > 0)
        )
    if config.name == "adamw":
        return optax.adamw(rate, b1=momentum, weight_decay=decay, mask=decayed)
    if config.name == "lion":
        return optax.lion(rate, b1=momentum, weight_decay=decay, mask=decayed)
    # muon takes every decayed parameter, so that there is nothing to decay among adamw's. Updates of root mean square
    # 0.2 are as long as adamw's (Liu et al. 2025, "Muon is Scalable for LLM Training"): one learning rate serves both.
    return muon(
        rate,
        beta=momentum,
        weight_decay=decay,
        adam_b1=momentum,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=lambda params: jax.tree_util.tree_map_with_path(
            lambda path, leaf, is_decayed: _as_matrix(leaf.ndim, stacked_axes(objective, path)) if is_decayed else None,
            params,
            decayed(params),
        ),
    )


def _as_matrix(ndim: int, stacked: int) -> "MuonDimensionNumbers":
    """Parameters of ``ndim`` axes as matrices (inputs, outputs), one for each element of the first ``stacked`` axes."""
    from optax.contrib import MuonDimensionNumbers

    return MuonDimensionNumbers(reduction_axis=tuple(range(stacked, ndim - 1)), output_axis=ndim - 1)


def stacked_axes(layer: Layer, path: jax.tree_util.KeyPath) -> int:
    """How many leading axes of the parameter at ``path`` stack the layers of a ``Repeat``, and are not its layer's."""
    place = jax.tree_util.keystr(path, simple=True, separator="/")
    return sum(isinstance(part, Repeat) for part in layers_around(layer, place))


def layer_of(path: jax.tree_util.KeyPath) -> str:
    """The path of the layer a parameter belongs to."""
    return jax.tree_util.keystr(path[:-1], simple=True, separator="/")
