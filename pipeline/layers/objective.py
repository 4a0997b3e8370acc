"""The objective: a model and its loss as one layer, which is what training differentiates."""

from dataclasses import dataclass
from typing import Any

import jax

from .base import Context, Layer, PyTree, output
from .tying import Ties, check_ties, expand_targets, remove_targets, sum_cotangents


@dataclass(frozen=True)
class Objective(Layer):
    """A model and its loss: a layer over (inputs, targets) whose output is one number.

    ties: pairs (target, source) of parameter paths, such as ``("loss/embedding", "model/layers/0/embedding")``. Targets
        are left out of the parameters and read from their sources; see ``layers.tying``.

    >>> import jax.numpy as jnp
    >>> from backhand.layers import Dense
    >>> from backhand.losses import SoftmaxCrossEntropy, Targets
    >>> objective = Objective(Dense(3), SoftmaxCrossEntropy())
    >>> batch = jnp.ones((4, 2)), Targets(jnp.array([0, 2, 1, 1]))
    >>> params = objective.init(jax.random.key(0), batch)
    >>> value, residuals = objective.forward(params, batch, Context(train=True))
    >>> d_params, _ = objective.backward(params, residuals, jnp.ones_like(value))
    >>> d_params["model"]["kernel"].shape
    (2, 3)
    """

    model: Layer
    loss: Layer
    ties: Ties = ()

    def __post_init__(self) -> None:
        if getattr(self.loss, "reduction", "mean") != "mean":
            raise ValueError(f"Objective: the loss must be one number, but {self.loss} gives one for each element")

    def init(self, key: Any, x: PyTree) -> PyTree:
        inputs, targets = x
        model = self.model.init(jax.random.fold_in(key, 0), inputs)
        outputs = output(self.model, model, inputs)
        params = {"model": model, "loss": self.loss.init(jax.random.fold_in(key, 1), (outputs, targets))}
        check_ties(params, self.ties)
        return remove_targets(params, self.ties)

    def expand(self, params: PyTree) -> PyTree:
        """The parameters of the model and of the loss, including tied ones."""
        return expand_targets(params, self.ties)

    def evaluate(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        """The loss and the model's outputs, computed by the definition of each."""
        params, (inputs, targets) = self.expand(params), x
        outputs = self.model.apply(params["model"], inputs, context.child(0))
        after = self.model.after(context).child(1)
        return self.loss.apply(params["loss"], (outputs, targets), after), outputs

    def count(self, targets: PyTree) -> Any:
        """What the loss's mean divides by: an example count, or the sum of the targets' weights."""
        return self.loss.count(targets)  # pyright: ignore[reportAttributeAccessIssue]

    def apply(self, params: PyTree, x: PyTree, context: Context) -> PyTree:
        return self.evaluate(params, x, context)[0]

    def forward(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        params, (inputs, targets) = self.expand(params), x
        outputs, model_residuals = self.model.forward(params["model"], inputs, context.child(0))
        after = self.model.after(context).child(1)
        value, loss_residuals = self.loss.forward(params["loss"], (outputs, targets), after)
        return value, {"outputs": outputs, "model": model_residuals, "loss": loss_residuals}

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """Backpropagation: from d_y, which is 1.0, through the loss, and from the loss through the model.

        The cotangents of all uses of a tied parameter are summed. The residuals include the model's outputs, which
        metrics read; ``jit`` removes them where nothing does.
        """
        params = self.expand(params)
        d_loss, (d_outputs, d_targets) = self.loss.backward(params["loss"], residuals["loss"], d_y)
        d_model, d_inputs = self.model.backward(params["model"], residuals["model"], d_outputs)
        return sum_cotangents({"model": d_model, "loss": d_loss}, self.ties), (d_inputs, d_targets)

    def statistics(self, params: PyTree, residuals: PyTree) -> PyTree:
        params = self.expand(params)
        statistics = {
            "model": self.model.statistics(params["model"], residuals["model"]),
            "loss": self.loss.statistics(params["loss"], residuals["loss"]),
        }
        return remove_targets(statistics, self.ties)
