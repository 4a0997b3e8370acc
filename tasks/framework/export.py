"""A trained forward pass as a file that runs wherever jax does, without this project: ``jax.export``'s."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pipeline import compiler

PLATFORMS = ("cpu", "cuda", "tpu")


def write(
    run: Path,
    function: Callable[..., jax.Array],
    shapes: Sequence[tuple[tuple[int, ...], Any]],
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
    *,
    takes: str,
    gives: str,
) -> Path:
    """Writes ``function`` into RUN/export/model.jax, for any batch, and returns that folder.

    shapes: of each argument, for one example, and its dtype; the batch is the first axis. draw: an argument of a shape,
    to hold the artifact, loaded again, against the function. takes, gives: what users are told of input and output.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    examples = [jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in shapes]
    artifact = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*examples).serialize()

    again = jax.export.deserialize(artifact)
    for size in (1, 3):
        random = np.random.default_rng(size)
        arguments = [draw(random, (size, *shape)) for shape, _ in shapes]
        np.testing.assert_allclose(
            compiler.jit(again.call)(*arguments), compiler.jit(function)(*arguments), rtol=1e-4, atol=1e-5
        )

    folder = run / "export"
    folder.mkdir(exist_ok=True)
    (folder / "model.jax").write_bytes(artifact)
    print(f"exported        {folder / 'model.jax'}  ({len(artifact) / 2**20:.1f} MiB, for {', '.join(PLATFORMS)})")
    print(f"input           {takes}")
    print(f"output          {gives}")
    print("checked         loaded again, it gives what the model gives")
    return folder
