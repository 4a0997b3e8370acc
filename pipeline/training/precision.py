"""Compute in a narrower dtype than the parameters'."""

from dataclasses import replace

from pipeline.layers.base import Layer
from pipeline.layers.combinators import Cast, EncoderDecoder, Serial
from pipeline.layers.embedding import Embedding
from pipeline.layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from pipeline.layers.masking import Masked, MaskedByLength

TAKE_IDS = (Embedding, BiasedFactorization, SVDPlusPlus, Interaction)


def in_precision(model: Layer, precision: str) -> Layer:
    """``model`` computing in ``precision``: the parameters, the outputs and the loss stay float32.

    The compute dtype is the input's, so the input is cast on the way in and the output on the way out.
    """
    if precision == "float32":
        return model
    if isinstance(model, Masked | MaskedByLength):
        return replace(model, layer=in_precision(model.layer, precision))
    if isinstance(model, EncoderDecoder):
        encoder = Serial(_narrowed(model.encoder, precision))  # the memory stays narrow on its way to the decoder
        return replace(model, encoder=encoder, decoder=in_precision(model.decoder, precision))
    return Serial((*_narrowed(model, precision), Cast("float32")))


def _narrowed(model: Layer, precision: str) -> tuple[Layer, ...]:
    layers = model.layers if isinstance(model, Serial) else (model,)
    ids = layers[:1] if isinstance(layers[0], TAKE_IDS) else ()  # which hold no floats to cast before they are rows
    return (*ids, Cast(precision), *layers[len(ids) :])
