"""Layers as modules of Flax (Linen and NNX) and Equinox, and parameters carried over in both directions.

``interop.flax``, ``interop.nnx`` and ``interop.equinox`` need their framework: ``pip install 'backhand[interop]'``.
"""
