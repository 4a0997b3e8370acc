"""The models of a diagnosis by their names, for tables, signals and images."""

from ..layers.base import Layer
from . import autoencoder, image, signal


def make(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    *,
    widths: tuple[int, ...],
    channels: tuple[int, ...],
    kernels: int,
    units: int,
    code: int,
    dropout: float,
    seed: int,
) -> Layer:
    """The model of this name for examples of ``shape``: (features,), (time, channels) or (height, width, channels).

    Its sizes are arguments of the functions that make it, of which each uses its own. Raises ValueError for examples
    that the model does not take, with a message that begins with "is" or "has".
    """
    kind = {1: "a table", 2: "signals", 3: "images"}[len(shape)]
    match name, kind:
        case "mlp", _:
            return image.mlp(classes, widths, dropout)
        case "autoencoder", "a table":
            return autoencoder.dense(shape, widths, code)
        case "autoencoder", _:
            if any(side % 2 ** len(channels) for side in shape[:-1]):
                raise ValueError(
                    f"has sides of {'x'.join(map(str, shape[:-1]))}, and each of the {len(channels)} entries "
                    "of --channels halves them; give fewer"
                )
            return autoencoder.convolutional(shape, channels, code)
        case "convnet", "images":
            return image.convnet(classes, channels, dropout=dropout, stride=image.stem_stride(shape))
        case "convnet", "signals":
            return image.convnet_1d(classes, channels, dropout=dropout)
        case "resnet", "images":
            return image.resnet(classes, channels, stride=image.stem_stride(shape))
        case "rocket", "signals":
            return signal.rocket(classes, kernels, seed)
        case "gru", "signals":
            return image.gru_1d(classes, channels[:1], units, dropout)
    fitting = {"a table": "mlp", "signals": "rocket, convnet, gru, mlp", "images": "convnet, resnet, mlp"}[kind]
    raise ValueError(f"is {kind}, which --model {name} does not take; choose {fitting} or autoencoder")
