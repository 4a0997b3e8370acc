"""A model and the loss that judges it, as one layer: what is trained."""

from dataclasses import dataclass
from typing import Any

import jax

from pipeline.layers.base import Context, Layer, PyTree, output
from pipeline.layers.tying import Ties, check_ties, expand_targets, remove_targets, sum_cotangents


@dataclass(frozen=True)
class Objective(Layer):
    """A model and the loss that judges it: a layer over (inputs, targets) whose output is one number.

    ties: pairs of parameter paths (target, source), as in ``("loss/embedding", "model/layers/0/embedding")``. The
        target is left out of the parameters and read from the source; see ``layers.tying``.
    """

    model: Layer
    loss: Layer
    ties: Ties = ()

    def init(self, key: Any, x: PyTree) -> PyTree:
        inputs, targets = x
        model = self.model.init(jax.random.fold_in(key, 0), inputs)
        outputs = output(self.model, model, inputs)
        params = {"model": model, "loss": self.loss.init(jax.random.fold_in(key, 1), (outputs, targets))}
        check_ties(params, self.ties)
        return remove_targets(params, self.ties)

    def expand(self, params: PyTree) -> PyTree:
        """The parameters as the model and the loss take them, every tied one in all its places."""
        return expand_targets(params, self.ties)

    def evaluate(self, params: PyTree, x: PyTree, context: Context) -> tuple[PyTree, PyTree]:
        """The loss and the model's outputs, by definition."""
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
        outputs, kept_by_model = self.model.forward(params["model"], inputs, context.child(0))
        after = self.model.after(context).child(1)
        value, kept_by_loss = self.loss.forward(params["loss"], (outputs, targets), after)
        return value, {"outputs": outputs, "model": kept_by_model, "loss": kept_by_loss}

    def backward(self, params: PyTree, residuals: PyTree, d_y: PyTree) -> tuple[PyTree, PyTree]:
        """Backpropagation: the loss turns d_y (1.0) into the gradient of its input, the model passes that down.

        The cotangents of a tied parameter's places are summed. The outputs among the residuals are there for metrics;
        jit drops them where nobody reads them.
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
