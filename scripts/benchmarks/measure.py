"""Measuring: the columns of a row take turns, so that whatever the machine does meanwhile hits all of them alike."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipeline import compiler

SAMPLE_SECONDS = 1e-3
"""What a sample takes at least: shorter functions are called several times."""
WARM_SECONDS = 1e-2
"""A function shorter than this is called once, untimed, before each sample: its own data is in the cache again."""
REST_SECONDS = 4e-3
"""The pause before each sample: the threads that the last one left spinning go to sleep meanwhile."""
ROUNDS = (9, 60)
"""The fewest and the most rounds of a row."""


def compiled(function: Callable, *args: Any, options: Mapping[str, str] | None = None) -> tuple[Callable[[], Any], int]:
    """``function`` jitted for ``args``, as a call that waits for its results, and its temporary memory in bytes.

    options: XLA's; without them those that the project compiles with.
    """
    chosen = dict(compiler.options() if options is None else options)
    executable = jax.jit(function, compiler_options=chosen).lower(*args).compile()
    memory = executable.memory_analysis()
    assert memory is not None, f"{jax.default_backend()} does not tell how much memory a program needs"
    return lambda: jax.block_until_ready(executable(*args)), memory.temp_size_in_bytes


def interleaved(columns: dict[str, Callable[[], Any]], seconds: float) -> dict[str, np.ndarray]:
    """Seconds a call of every column, one figure a round: all columns once each, in a new random order every round.

    seconds: about how long the rounds take together, within ``ROUNDS``.
    """
    for call in columns.values():
        call()
    durations = {name: min(_seconds(call, 1) for _ in range(2)) for name, call in columns.items()}
    repeats = {name: max(1, round(SAMPLE_SECONDS / duration)) for name, duration in durations.items()}
    one_round = sum(REST_SECONDS + (repeats[name] + 1) * duration for name, duration in durations.items())
    rounds = int(np.clip(seconds / one_round, *ROUNDS))

    random, names = np.random.default_rng(0), list(columns)
    samples = {name: np.empty(rounds) for name in names}
    for i in range(rounds):
        for name in random.permutation(names):
            time.sleep(REST_SECONDS)
            if durations[name] < WARM_SECONDS:
                columns[name]()
            samples[name][i] = _seconds(columns[name], repeats[name])
    return samples


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


class Ratio(NamedTuple):
    """The median of a ratio over the rounds, and what eight rounds of ten lie between."""

    median: float
    low: float
    high: float


def ratio(samples: np.ndarray, reference: np.ndarray) -> Ratio:
    """``samples`` over ``reference``, round by round."""
    low, median, high = np.quantile(samples / reference, (0.1, 0.5, 0.9))
    return Ratio(float(median), float(low), float(high))


def machine() -> dict[str, Any]:
    """What the figures were measured on, with its own ceilings: the best of several runs."""
    square = jnp.ones((2048, 2048), jnp.float32)
    product, _ = compiled(jnp.matmul, square, square)
    product()
    return {
        "matmul_gflops": 2 * 2048**3 / min(_seconds(product, 1) for _ in range(10)) / 1e9,
        "copy_gb_per_s": _copy_rate() / 1e9,
        "device": jax.devices()[0].device_kind,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "options": compiler.options(),
        "versions": {name: _version(name) for name in ("jax", "jaxlib", "flax", "optax", "torch")},
    }


def _copy_rate() -> float:
    """Bytes a second, read and written, of y = 2 x from one large array into another: no new memory is asked for."""
    x, y = jnp.ones(2**25, jnp.float32), jnp.ones(2**25, jnp.float32)
    scale = compiler.jit(lambda x, y: 2 * x, donate_argnums=1, keep_unused=True)

    def call() -> None:
        nonlocal y
        y = scale(x, y).block_until_ready()

    call()
    return 2 * x.nbytes / min(_seconds(call, 1) for _ in range(10))


def _cpu_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
