"""Models: compositions of layers, one module for each family.

>>> from backhand.models import image
>>> model = image.mlp(classes=10)
"""

from . import acoustic, autoencoder, diagnosis, image, language, recommenders, signal, text, transformer, translation

__all__ = [
    "acoustic",
    "autoencoder",
    "diagnosis",
    "image",
    "language",
    "recommenders",
    "signal",
    "text",
    "transformer",
    "translation",
]
