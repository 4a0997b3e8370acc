"""One training step: a pure function of the state and a batch."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..backprop import Gradient, value_and_grad
from ..errors import UserError
from ..evaluation.metrics import Metrics, no_metrics
from ..layers.base import Context, PyTree
from ..layers.objective import Objective
from .loss_functions import LossFunction, metrics_of, require_loss, with_gradient
from .optimizer import layer_of, require_optimizer
from .state import TrainState

if TYPE_CHECKING:
    import optax

Augment = Callable[[Any, PyTree], PyTree]


def make_train_step(
    objective: Objective | LossFunction,
    optimizer: "optax.GradientTransformation",
    gradient: Gradient = "manual",
    *,
    seed: int = 0,
    accumulate: int = 1,
    average: float = 0.0,
    augment: Augment | None = None,
    metrics: Metrics = no_metrics,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Any]]]:
    """A pure function ``step(state, (inputs, targets)) -> (state, step_metrics)``, to be jitted with the state donated.

    objective: an Objective, or a function ``(params, batch, context) -> (loss, aux)`` of batches of any structure,
        which is differentiated by ``jax.value_and_grad``. One that returns ``((loss, aux), d_params)`` brings its own
        gradient. See ``LossFunction``.
    optimizer: any of optax; those that need the loss (``value``, ``grad``, ``value_fn``) get it.
    gradient: how an Objective's gradients are computed: "manual", "autodiff" or "attached"; see
        ``backprop.value_and_grad``.
    seed: random seed; dropout and augmentation are functions of it and of the state's step.
    accumulate: number of equal parts into which the batch is split. They go through the model one after the other, in
        the memory of a single part. Each part is weighted by what it counts, so the sum is the whole batch's gradient,
        unless a layer looks across examples. A function's parts have equal weights.
    average: decay of the exponential moving average of the parameters; 0: no average. The decay is at most
        (1 + step) / (10 + step), so that the average soon forgets the initial parameters.
    augment: ``(key, inputs) -> inputs``, applied within the step.
    metrics: ``(outputs, targets) -> {name: mean}``. A function's metrics are the numbers in its aux.

    step_metrics: "loss", the metrics, "gradient_norm" by layer, and "finite". If the loss, a gradient norm or the
    update is not finite, the state stays as it was, except for ``finite``, in this and all later steps.

    Raises ValueError if an argument is not of its kind; the step does where a function returns something else.
    """
    import optax

    require_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)
    is_objective = isinstance(objective, Objective)
    if not is_objective:
        _require_function(objective, augment, metrics)
    value_and_gradient = value_and_grad(objective, gradient) if is_objective else with_gradient(objective)

    def count(batch: Any) -> Any:
        if isinstance(objective, Objective):
            return objective.count(batch[1])
        return jnp.float32(len(jax.tree.leaves(batch)[0]))

    def part(params: PyTree, batch: Any, context: Context, share: Any = 1.0) -> tuple[dict[str, Array], PyTree]:
        (loss, outputs), d_params = value_and_gradient(params, batch, context, share)
        means = metrics(outputs, batch[1]) if is_objective else metrics_of(outputs)
        means = {name: (share * value).astype(value.dtype) for name, value in means.items()}
        return {"loss": loss, **means}, d_params

    def whole(params: PyTree, batch: Any, context: Context) -> tuple[dict[str, Array], PyTree]:
        if accumulate == 1:
            return part(params, batch, context.child(0))
        parts = split(batch, accumulate)
        shapes = jax.eval_shape(part, params, jax.tree.map(lambda leaf: leaf[0], parts), context)
        dtype = shapes[0]["loss"].dtype
        total = jnp.asarray(count(batch), dtype)

        def add(sums: PyTree, indexed: tuple[Any, Any]) -> tuple[PyTree, None]:
            i, batch = indexed
            share = count(batch).astype(dtype) / jnp.where(total == 0, 1.0, total)
            return jax.tree.map(jnp.add, sums, part(params, batch, context.child(i), share)), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(add, zeros, (jnp.arange(accumulate, dtype=jnp.int32), parts))[0]

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Any]]:
        batch, context = prepare_batch(batch, seed, state.step, augment)
        # Steps 1 to 4: forward pass, loss, backward pass, propagation.
        step_metrics, d_params = whole(state.params, batch, context)
        # Step 5, the update.
        updates, optimizer_state = optimizer.update(
            d_params,
            state.optimizer_state,
            state.params,
            value=step_metrics["loss"],
            grad=d_params,
            value_fn=lambda params: whole(params, batch, context)[0]["loss"],
        )
        norms = norms_by_layer(d_params)
        finite = state.finite & _all_finite((step_metrics["loss"], norms, updates))
        params = optax.apply_updates(state.params, updates)
        updated = TrainState(
            params, optimizer_state, state.step + 1, _averaged(state.average, params, average, state.step), finite
        )
        updated = jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)
        return replace(updated, finite=finite), {**step_metrics, "gradient_norm": norms, "finite": finite}

    return step


def _require_function(objective: Any, augment: Augment | None, metrics: Metrics) -> None:
    """Raises ValueError if ``objective`` is no function either, or if there are options that only an Objective has."""
    require_loss(objective)
    for name, is_given in (("augment", augment is not None), ("metrics", metrics is not no_metrics)):
        if is_given:
            raise ValueError(
                f"{name} is for an Objective; a function of params, batch and context draws its augmentation from "
                "context.key, and returns its metrics as aux"
            )


def prepare_batch(batch: Any, seed: int, step: Any, augment: Augment | None) -> tuple[Any, Context]:
    """The augmented batch of ``step``, and the context with its random key: everything that is random about a step."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    if augment is not None:
        batch = augment(jax.random.fold_in(key, 0), batch[0]), batch[1]
    return batch, Context(train=True, key=jax.random.fold_in(key, 1))


def split(batch: Any, parts: int) -> Any:
    """Every array (examples, ...) of the batch as (parts, examples / parts, ...)."""

    def reshape(leaf: Array) -> Array:
        if leaf.shape[0] % parts:
            raise UserError(
                f"--accumulate is {parts}, which does not divide the batch of {leaf.shape[0]} examples; "
                "choose a --batch-size that is a multiple of it"
            )
        return leaf.reshape(parts, -1, *leaf.shape[1:])

    return jax.tree.map(reshape, batch)


def _all_finite(tree: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _averaged(average: PyTree, params: PyTree, decay: float, step: Any) -> PyTree:
    if average is None:
        return None
    now = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda mean, new: (now * mean + (1 - now) * new).astype(new.dtype), average, params)


def norms_by_layer(d_params: PyTree) -> dict[str, Array]:
    """The Euclidean norm of each layer's gradient, by the layer's path."""
    squares: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(d_params):
        layer = layer_of(path)
        squares[layer] = squares.get(layer, 0.0) + jnp.square(leaf).sum()
    return {layer: jnp.sqrt(square) for layer, square in squares.items()}
