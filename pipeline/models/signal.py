"""Classifiers of signals (batch, time, channels) that do not train their kernels; ``image`` has those that do."""

from ..layers.combinators import Serial
from ..layers.linear import Dense
from ..layers.normalization import BatchNorm
from ..layers.random_convolutions import RandomConvolutions


def rocket(classes: int, kernels: int = 1000, seed: int = 0) -> Serial:
    """Random convolutions, standardised, under a linear layer (Dempster, Petitjean & Webb 2020).

    It learns from few signals, of which networks with trained kernels need many.

    kernels: number of random kernels, each of which gives two features. seed: of the kernels.
    """
    return Serial((RandomConvolutions(kernels, seed=seed), BatchNorm(), Dense(classes)))
