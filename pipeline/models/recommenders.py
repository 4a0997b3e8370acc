"""Recommenders: models of pairs of a user and an item, and models of a whole table of ratings.

``biased`` and ``neural`` map ids (users (batch,), items (batch, candidates)) to scores (batch, candidates); a training
step reads and updates only the rows of its batch (see ``tables``). ``implicit`` and ``autoencoder`` read all that is
known of a user, or of the whole table, at once.
"""

from jaxtyping import Array

from ..layers.activations import ReLU, Sigmoid
from ..layers.base import Layer, PyTree, leaves
from ..layers.combinators import Parallel, Serial, Transposed
from ..layers.dropout import Dropout
from ..layers.factorization import BiasedFactorization, Interaction, SVDPlusPlus
from ..layers.initializers import zeros
from ..layers.linear import Dense
from ..layers.shape import Reshape


def recommender(kind: str, users: int, items: int, *, features: int, hidden: int, dropout: float) -> Layer:
    """A recommender by its kind: factorization (``biased``), neural, implicit or autoencoder."""
    if kind == "factorization":
        return biased(users, items, features)
    if kind == "neural":
        return neural(users, items, features, hidden, dropout)
    if kind == "implicit":
        return implicit(users, items, features, dropout)
    if kind == "autoencoder":
        return autoencoder(users, items, hidden, dropout)
    raise ValueError(f"there is no recommender of the kind {kind!r}")


def biased(users: int, items: int, features: int) -> BiasedFactorization:
    """Matrix factorisation with biases (Koren, Bell & Volinsky 2009)."""
    return BiasedFactorization(users, items, features)


def neural(users: int, items: int, features: int, hidden: int, dropout: float = 0.0) -> Serial:
    """Neural collaborative filtering (He et al. 2017): a network over two vectors and their elementwise product."""
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
    """SVD++ (Koren 2008): maps (users (batch,), rated (batch, items)) to scores of all items (batch, items).

    It uses which items a user has rated as implicit feedback; see ``SVDPlusPlus``.
    """
    return Serial((SVDPlusPlus(users, features), Dropout(dropout), Dense(items)))


def autoencoder(users: int, items: int, hidden: int, dropout: float = 0.0) -> Parallel:
    """The sum of a user-based and an item-based AutoRec (Sedhain et al. 2015), which completes a table of ratings.

    x is (users, items): the ratings minus a baseline, and 0 where there is no rating. One part reconstructs each row
    from its known entries, the other each column, and each learns the residual of the other. Both start at 0, that is
    at the baseline.
    """
    return Parallel((_encoded(items, hidden, dropout), Transposed(_encoded(users, hidden, dropout))))


def _encoded(size: int, hidden: int, dropout: float) -> Serial:
    return Serial((Dense(hidden), Sigmoid(), Dropout(dropout), Dense(size, kernel_init=zeros)))


def item_vectors(model: Layer, params: PyTree, items: int) -> Array:
    """The learned vectors of items, (items, features); items that the same users like have similar vectors."""
    for path, layer in leaves(model):
        layer_params = params
        for name in filter(None, path.split("/")):
            layer_params = layer_params[int(name)] if isinstance(layer_params, list) else layer_params[name]
        if isinstance(layer, BiasedFactorization | Interaction):
            return layer_params["item"]["embedding"]
        if isinstance(layer, Dense) and layer.features == items:
            return layer_params["kernel"].T
    raise ValueError(f"{model} has no vectors of {items} items")


def tables(model: Layer, path: str = "model") -> tuple[tuple[tuple[str, ...], str], ...]:
    """The parameters of a model of pairs that have a row per user or per item: (their paths, the path of the ids).

    The paths are those in the parameters, and in a batch (inputs, targets). Empty for models of whole tables.

    >>> tables(biased(users=5, items=7, features=3))[0]
    (('model/user/embedding', 'model/user/bias'), '0/0')
    """
    for name, layer in leaves(model, path):
        if isinstance(layer, BiasedFactorization | Interaction):
            arrays = ("embedding", "bias") if isinstance(layer, BiasedFactorization) else ("embedding",)
            pairs = (("user", "0/0"), ("item", "0/1"))
            return tuple((tuple(f"{name}/{of}/{array}" for array in arrays), ids) for of, ids in pairs)
    return ()
