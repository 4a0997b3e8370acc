"""Models: compositions of layers, one module for each family.

>>> from pipeline.models import image
>>> model = image.mlp(classes=10)
"""

from pipeline.models import acoustic, autoencoder, image, language, recommenders, text, transformer, translation

__all__ = ["acoustic", "autoencoder", "image", "language", "recommenders", "text", "transformer", "translation"]
