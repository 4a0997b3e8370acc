"""Compute in a narrower dtype than the parameters'."""

from pipeline.layers.base import Layer
from pipeline.layers.combinators import Cast, Serial


def in_precision(model: Layer, precision: str) -> Layer:
    """``model`` computing in ``precision``: the parameters, the outputs and the loss stay float32.

    The compute dtype is the input's, so the input is cast on the way in and the output on the way out.
    """
    if precision == "float32":
        return model
    layers = model.layers if isinstance(model, Serial) else (model,)
    return Serial((Cast(precision), *layers, Cast("float32")))
