"""Optional dependencies: which extra of the package brings which of them."""

from types import TracebackType

EXTRAS = {
    "train": ("grain", "orbax", "flatbuffers", "pooch", "sklearn", "scipy", "PIL", "mnist1d", "optax"),
    "text": ("tokenizers", "sacrebleu", "babel", "vaderSentiment"),
    "speech": ("soundfile", "soxr", "jiwer", "espeakng_loader"),
    "report": ("matplotlib", "jinja2", "markupsafe"),
    "interop": ("flax", "equinox"),
    "tables": ("pandas", "openpyxl", "pyarrow"),
    "export": ("safetensors",),
    "tensorboard": ("tensorboardX",),
}
"""Modules by the extra that installs them; ``all`` installs every one but ``tables`` and ``tensorboard``."""


class MissingExtra(ModuleNotFoundError):
    """An optional dependency is not installed; the message names the extra that installs it."""


class extra:
    """Imports that may be missing, and the one message where they are.

        with extra("speech"):
            import soundfile

    Raises MissingExtra, whose message names the extra to install.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing in EXTRAS[self._name]:
            raise MissingExtra(
                f"{missing} is not installed; it comes with: pip install 'backhand[{self._name}]'", name=missing
            ) from None
