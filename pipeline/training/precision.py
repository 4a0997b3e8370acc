"""Compute in a narrower dtype than the parameters'."""

from pipeline.layers.base import Layer
from pipeline.layers.combinators import Cast, Serial
from pipeline.layers.embedding import Embedding


def in_precision(model: Layer, precision: str) -> Layer:
    """``model`` computing in ``precision``: the parameters, the outputs and the loss stay float32.

    The compute dtype is the input's, so the input is cast on the way in and the output on the way out.
    """
    if precision == "float32":
        return model
    layers = model.layers if isinstance(model, Serial) else (model,)
    ids = layers[:1] if isinstance(layers[0], Embedding) else ()  # which hold no floats to cast before they are rows
    return Serial((*ids, Cast(precision), *layers[len(ids) :], Cast("float32")))
