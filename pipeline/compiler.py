"""What XLA must be told to be right and fast, on each platform and for each version of jaxlib.

``jit`` is ``jax.jit`` with these options. They travel with the function, so that train steps, evaluation, prediction,
verification and benchmarks are compiled with them whatever the environment says. Code that compiles our rules with
``jax.jit`` of its own gets XLA's defaults; ``recommended_flags`` gives it the same options as ``XLA_FLAGS``:

    export XLA_FLAGS="$(python -m pipeline.compiler)"
"""

import os
import platform
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import UserError

OLDEST = "0.10.2"
"""The oldest jaxlib that the project supports."""
JAXLIB = version("jaxlib")
"""The one that is installed."""


CACHE_FOLDER = "jax_compilation_cache_dir"
CACHE_EVERY_PROGRAM = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
"""Settings of JAX by which its cache keeps small programs, too."""
KEPT_PROGRAMS = {
    "jax_persistent_cache_min_compile_time_secs": 0.5,
    "jax_compilation_cache_max_size": 2**30,
}
"""Settings by which the user's cache keeps the programs that are worth a file, up to a GiB of them."""


@dataclass(frozen=True)
class Reason:
    """A fault of XLA's that an option avoids.

    issue: where it is reported; "" where it is not, and only measured here (by ``scripts/benchmark.py --defaults``).
    since: the first jaxlib that has it; fixed_in: the first that no longer does, or None. An option can go when the
        project supports no jaxlib that has one of its faults.
    wrong_numbers: whether results are wrong, and nothing else tells.
    """

    fault: str
    issue: str
    since: str
    fixed_in: str | None = None
    wrong_numbers: bool = False

    def holds(self, jaxlib_version: str) -> bool:
        """Whether that jaxlib has the fault."""
        version = _numbers(jaxlib_version)
        return _numbers(self.since) <= version and (self.fixed_in is None or version < _numbers(self.fixed_in))


@dataclass(frozen=True)
class Option:
    """An option of XLA's, and why its default will not do.

    platform: as ``jax.default_backend`` calls it.
    since, until: the first jaxlib that it is for, and the first that it is no longer for, or None.
    travels: whether ``compiler_options`` of ``jax.jit`` take it; else it must stand in ``XLA_FLAGS`` before JAX starts.
    """

    platform: str
    name: str
    value: str
    reasons: tuple[Reason, ...]
    since: str = OLDEST
    until: str | None = None
    travels: bool = True

    def is_for(self, jaxlib_version: str) -> bool:
        """Whether it is for that jaxlib."""
        version = _numbers(jaxlib_version)
        return _numbers(self.since) <= version and (self.until is None or version < _numbers(self.until))

    @property
    def flag(self) -> str:
        """The option as it stands in ``XLA_FLAGS``."""
        return f"--{self.name}={self.value}"


CONVOLUTIONS = Reason(
    "2-D convolutions of more than 16 channels go to YNNPACK on one core; Eigen's have all cores",
    "",
    since="0.10.2",
)

HIGH_RANK = Reason(
    "a reduction over arrays of rank 7 or 8 ends or hangs the process",
    "https://github.com/jax-ml/jax/issues/39257 and https://github.com/jax-ml/jax/issues/40412",
    since="0.10.2",
    fixed_in="0.11.1",
)

# What YNNPACK may compute. It is the fastest at matrix products, and at reductions where these are right.
DOTS = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
REDUCTIONS_ARE_RIGHT = "0.11.1"

OPTIONS = (
    Option(
        "cpu",
        "xla_cpu_experimental_ynn_fusion_type",
        DOTS,
        (
            CONVOLUTIONS,
            Reason(
                "a reduction of a batched matrix-vector product is wrong from 16,385 rows (float32: 32,769) on",
                "https://github.com/jax-ml/jax/issues/39103",
                since="0.10.2",
                fixed_in="0.11.0",
                wrong_numbers=True,
            ),
            HIGH_RANK,
        ),
        until=REDUCTIONS_ARE_RIGHT,
    ),
    Option(
        "cpu",
        "xla_cpu_experimental_ynn_fusion_type",
        f"{DOTS},LIBRARY_FUSION_TYPE_REDUCE",
        (CONVOLUTIONS,),
        since=REDUCTIONS_ARE_RIGHT,
    ),
    Option(
        "gpu",
        "xla_backend_extra_options",
        "-nvptx-allow-ftz-atomics",
        (
            Reason(
                "a float32 scatter-add, an embedding's gradient, takes hundreds of times as long where ids repeat",
                "https://github.com/jax-ml/jax/issues/38806",
                since="0.10.2",
                fixed_in="0.11.1",
            ),
        ),
        travels=False,
    ),
)


def needed(platform: str, jaxlib_version: str) -> tuple[Option, ...]:
    """The options that a platform needs with a jaxlib."""
    return tuple(
        option
        for option in OPTIONS
        if option.platform == platform
        and option.is_for(jaxlib_version)
        and any(reason.holds(jaxlib_version) for reason in option.reasons)
    )


@cache
def options() -> dict[str, Any]:
    """The ``compiler_options`` of this process's device and jaxlib, by name; to be left as they are.

    Raises UserError where the jaxlib is too old, or is known to compute wrong numbers and does so with these options.
    Warns where an option is missing that only ``XLA_FLAGS`` can set.
    """
    platform = jax.default_backend()
    if _numbers(JAXLIB) < _numbers(OLDEST):
        raise UserError(
            f"jaxlib {JAXLIB} is older than {OLDEST}, the oldest that Backhand works with; install a newer one: "
            "pip install --upgrade jax jaxlib"
        )
    every = needed(platform, JAXLIB)
    for option in every:
        if not option.travels and option.value not in os.environ.get("XLA_FLAGS", ""):
            faults = "; ".join(f"{reason.fault} ({reason.issue})" for reason in option.reasons)
            warnings.warn(
                f"with jaxlib {JAXLIB} {faults}. Install a newer jaxlib, or set XLA_FLAGS='{option.flag}'",
                RuntimeWarning,
                stacklevel=2,
            )
    travelling = {option.name: option.value for option in every if option.travels}
    _refuse_wrong_numbers(platform, travelling)
    return travelling


def jit(function: Callable[..., Any], **arguments: Any) -> Any:
    """``jax.jit(function, **arguments)`` with the options of this process's device and jaxlib.

    As JAX wants it of functions with options of their own, the result is called from Python, not from within another
    function that is compiled or differentiated.
    """
    return jax.jit(function, compiler_options=options(), **arguments)


def jit_once(function: Callable[..., Any], **arguments: Any) -> Any:
    """``jit`` for a program that runs once: a CPU's compiles several times as fast, and runs several times as long."""
    quick = quick_options() if jax.default_backend() == "cpu" else {}
    return jax.jit(function, compiler_options=options() | quick, **arguments)


@contextmanager
def compiled_once() -> Iterator[None]:
    """Compiles equal programs once: later ones, of the same shapes, read the first one's from a cache.

    The cache is a temporary folder, or the one that JAX is configured to have.
    """
    with TemporaryDirectory() as folder:
        settings = {CACHE_FOLDER: getattr(jax.config, CACHE_FOLDER) or folder, **CACHE_EVERY_PROGRAM}
        before = {name: getattr(jax.config, name) for name in settings}
        try:
            _configure(settings)
            yield
        finally:
            _configure(before)


def keep_programs() -> None:
    """Keeps this process's programs in the user's cache, from which the next one takes them instead of compiling again.

    JAX finds a program by all that it is made of: its operations, the compiler's version and options, and the kind of
    device. An entry that cannot be read is compiled again. The folder is JAX_COMPILATION_CACHE_DIR, or "backhand"
    among the user's caches, with a folder for each kind of processor, since their machine code differs. When it grows
    beyond a GiB, JAX removes what was not used for the longest time. JAX's own variables of the environment prevail.

    Nothing is kept where JAX_ENABLE_COMPILATION_CACHE is false, or where the folder cannot be written.
    """
    if os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower() in ("false", "0", "no", "off"):
        return
    settings = {name: value for name, value in KEPT_PROGRAMS.items() if name.upper() not in os.environ}
    settings[CACHE_FOLDER] = getattr(jax.config, CACHE_FOLDER) or str(_cache_folder())
    try:
        Path(settings[CACHE_FOLDER]).mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    _configure(settings)


def _cache_folder() -> Path:
    """Where the programs for this kind of processor are kept."""
    from platformdirs import user_cache_path

    features = ""
    with suppress(OSError), open("/proc/cpuinfo") as described:
        features = next((line for line in described if line.startswith(("flags", "Features"))), "")
    processor = f"{platform.machine()}-{zlib.crc32(features.encode()):08x}"
    return user_cache_path("backhand") / "programs" / processor


def _configure(settings: Mapping[str, Any]) -> None:
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()  # JAX decides only once in a process whether there is a cache


def recommended_flags(platform: str | None = None, jaxlib_version: str | None = None) -> str:
    """The same options as ``XLA_FLAGS``, for code that compiles with ``jax.jit`` of its own; "" where none is needed.

    platform: "cpu", "gpu" or "tpu"; without one, and without a version, those of this process.
    """
    every = needed(platform or jax.default_backend(), jaxlib_version or JAXLIB)
    return " ".join(option.flag for option in every)


def quick_options(jaxlib_version: str | None = None) -> dict[str, Any]:
    """Options with which a program for a CPU compiles in less time and runs in more, as tests want it."""
    quick: dict[str, Any] = {"xla_backend_optimization_level": 0}
    if _numbers(jaxlib_version or JAXLIB) < (0, 12):  # 0.12 no longer has this one
        quick["xla_cpu_use_fusion_emitters"] = False
    return quick


def quick_flags(jaxlib_version: str | None = None) -> str:
    """The same as ``XLA_FLAGS``. A flag that a jaxlib does not know ends the process: each has its own."""
    return " ".join(f"--{name}={str(value).lower()}" for name, value in quick_options(jaxlib_version).items())


def _refuse_wrong_numbers(platform: str, travelling: dict[str, Any]) -> None:
    """Raises UserError where a jaxlib that is known to compute wrong numbers does so with these options."""
    reasons = (reason for option in needed(platform, JAXLIB) for reason in option.reasons)
    wrong = next((reason for reason in reasons if reason.wrong_numbers and reason.holds(JAXLIB)), None)
    if wrong and not known_product_is_right(travelling | quick_options()):
        raise UserError(
            f"jaxlib {JAXLIB} computes wrong numbers on this machine: {wrong.fault} ({wrong.issue}), and the option "
            f"that avoids it has no effect. Install jaxlib {wrong.fixed_in} or later, which needs Python 3.12 or later"
        )


def known_product_is_right(compiler_options: dict[str, Any]) -> bool:
    """Whether |A x|^2 of 32,769 rows, the program by which jaxlib 0.10.2 was found out, is right with these options."""
    rows = np.zeros((32_769, 3), np.float32)
    rows[:, 0] = np.arange(32_769)

    def squares(rows: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: ((jnp.eye(3, dtype=jnp.float32) @ row) ** 2).sum())(rows)

    return float(jax.jit(squares, compiler_options=compiler_options)(rows)[-1]) == 32_768.0**2


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers a version begins with: (0, 12, 0, 1) of "0.12.0.1.dev2"."""
    start = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, start.group().split("."))) if start else ()


if __name__ == "__main__":
    print(recommended_flags())
