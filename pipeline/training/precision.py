"""Mixed precision: a model that computes in a narrower dtype than its parameters'."""

from dataclasses import replace

from ..layers.base import Layer
from ..layers.combinators import Cast, EncoderDecoder, Serial
from ..layers.embedding import Embedding, EmbeddingBag
from ..layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from ..layers.masking import Masked, MaskedByLength

INPUTS_ARE_IDS = (Embedding, EmbeddingBag, BiasedFactorization, SVDPlusPlus, Interaction)


def in_precision(model: Layer, precision: str) -> Layer:
    """``model`` computing in ``precision``: "float32" or "bfloat16". Parameters, outputs and loss stay float32.

    A layer computes in its input's dtype, so a ``Cast`` is put before the first layer and another after the last.
    """
    if precision == "float32":
        return model
    if isinstance(model, Masked | MaskedByLength):
        return replace(model, layer=in_precision(model.layer, precision))
    if isinstance(model, EncoderDecoder):
        encoder = Serial(_narrowed(model.encoder, precision))  # the decoder's memory stays narrow
        return replace(model, encoder=encoder, decoder=in_precision(model.decoder, precision))
    return Serial((*_narrowed(model, precision), Cast("float32")))


def _narrowed(model: Layer, precision: str) -> tuple[Layer, ...]:
    layers = model.layers if isinstance(model, Serial) else (model,)
    ids = layers[:1] if isinstance(layers[0], INPUTS_ARE_IDS) else ()  # cast what it looks up, not the ids
    return (*ids, Cast(precision), *layers[len(ids) :])
