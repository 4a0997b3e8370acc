"""Recommenders: scores of pairs of a user and an item, or of a whole table of users and items at once.

Those of pairs take ids (users (batch,), items (batch, candidates)) to scores (batch, candidates), and a step needs the
rows of its batch alone (``tables``). Those of a table see everything that is known of a user, or of an item, at once.
"""

from jaxtyping import Array

from pipeline.layers.activations import ReLU, Sigmoid
from pipeline.layers.base import Layer, PyTree, leaves
from pipeline.layers.combinators import Parallel, Serial, Transposed
from pipeline.layers.dropout import Dropout
from pipeline.layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from pipeline.layers.initializers import zeros
from pipeline.layers.linear import Dense
from pipeline.layers.shape import Reshape


def biased(users: int, items: int, features: int) -> BiasedFactorization:
    """Matrix factorisation with biases (Koren, Bell & Volinsky 2009)."""
    return BiasedFactorization(users, items, features)


def neural(users: int, items: int, features: int, hidden: int, dropout: float = 0.0) -> Serial:
    """Neural collaborative filtering (He et al. 2017): a network over the product of two vectors and both of them."""
    return Serial(
        (
            Interaction(users, items, features),
            Dropout(dropout),
            Dense(hidden),
            ReLU(),
            Dropout(dropout),
            Dense(hidden // 2),
            ReLU(),
            Dense(1),
            Reshape((-1,)),
        )
    )


def implicit(users: int, items: int, features: int, dropout: float = 0.0) -> Serial:
    """SVD++ (Koren 2008): of (users (batch,), known (batch, items)), scores of all items (batch, items).

    What a user has rated, however, says something of the user: see ``SVDPlusPlus``.
    """
    return Serial((SVDPlusPlus(users, features), Dropout(dropout), Dense(items)))


def autoencoder(users: int, items: int, hidden: int, dropout: float = 0.0) -> Parallel:
    """AutoRec (Sedhain et al. 2015) of users and of items, summed: a table of ratings to one without gaps.

    x is (users, items), what ratings have beside a baseline, and 0 where there is none. One half makes each row again
    from what is known of it, the other each column; both learn what the other leaves. Both begin with 0
    everywhere, the baseline.
    """
    return Parallel((_encoded(items, hidden, dropout), Transposed(_encoded(users, hidden, dropout))))


def _encoded(size: int, hidden: int, dropout: float) -> Serial:
    return Serial((Dense(hidden), Sigmoid(), Dropout(dropout), Dense(size, kernel_init=zeros)))


def item_vectors(model: Layer, params: PyTree, items: int) -> Array:
    """What a model of this module has learnt of each item: (items, features), alike where items are liked alike."""
    for path, layer in leaves(model):
        its = params
        for name in filter(None, path.split("/")):
            its = its[int(name)] if isinstance(its, list) else its[name]
        if isinstance(layer, BiasedFactorization | Interaction):
            return its["item"]["kernel"]
        if isinstance(layer, Dense) and layer.features == items:
            return its["kernel"].T
    raise ValueError(f"{model} has no vectors of {items} items")


def tables(model: Layer, path: str = "model") -> tuple[tuple[tuple[str, ...], str], ...]:
    """Of a model of pairs, the paths of what has a row for each user, or each item, and of the ids these are of."""
    for name, layer in leaves(model, path):
        if isinstance(layer, BiasedFactorization | Interaction):
            arrays = ("kernel", "bias") if isinstance(layer, BiasedFactorization) else ("kernel",)
            pairs = (("user", "0/0"), ("item", "0/1"))
            return tuple((tuple(f"{name}/{of}/{array}" for array in arrays), ids) for of, ids in pairs)
    return ()
