"""A trained forward pass as a file that runs wherever JAX does, without this project: an artifact of ``jax.export``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from pipeline import compiler, storage
from pipeline.display import visible

PLATFORMS = ("cpu", "cuda", "tpu")
PREDICT = """\
import sys
from pathlib import Path

import jax
import numpy as np
from jax import export

model = export.deserialize((Path(__file__).parent / "model.jax").read_bytes())
inputs = [np.load(path).astype(its.dtype) for path, its in zip(sys.argv[1:], model.in_avals, strict=True)]
np.save("outputs.npy", jax.jit(model.call)(*inputs))
"""
"""A program that runs the artifact, and needs nothing but JAX."""
README = """\
# An exported model

`model.jax` is the trained forward pass, an artifact of `jax.export` for {platforms}. Nothing but JAX is needed to run
it: `python predict.py {files}` reads its inputs from NumPy's files and writes `outputs.npy`.

- Input: {takes}
- Output: {gives}
- Beside it: {beside}
"""


class Exported(NamedTuple):
    """A function to be exported.

    shapes: for each argument the shape of one example and the dtype; the batch is the first axis.
    draw: ``(generator, shape) -> array``, an argument of that shape, to compare the artifact with the function.
    takes, gives: input and output, in words for the user.
    """

    function: Callable[..., jax.Array]
    shapes: Sequence[tuple[tuple[int, ...], Any]]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    takes: str
    gives: str


def write_export(run_directory: Path, exported: Exported) -> Path:
    """Writes RUN/export/model.jax, for batches of any size, and returns that folder.

    The artifact is loaded again and compared with the function before it is written.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    examples = [jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in exported.shapes]
    artifact = jax.export.export(jax.jit(exported.function), platforms=PLATFORMS)(*examples).serialize()

    loaded = jax.export.deserialize(artifact)
    for size in (1, 3):
        random = np.random.default_rng(size)
        arguments = [exported.draw(random, (size, *shape)) for shape, _ in exported.shapes]
        np.testing.assert_allclose(
            compiler.jit(loaded.call)(*arguments), compiler.jit(exported.function)(*arguments), rtol=1e-4, atol=1e-5
        )

    folder = run_directory / "export"
    folder.mkdir(exist_ok=True)
    storage.write(folder / "model.jax", bytes(artifact))
    path, size = visible(str(folder / "model.jax")), len(artifact) / 2**20
    print(f"exported        {path}  ({size:.1f} MiB, for {', '.join(PLATFORMS)})")
    print(f"input           {exported.takes}")
    print(f"output          {exported.gives}")
    print("checked         the artifact, loaded again, agrees with the model")
    storage.write(folder / "predict.py", PREDICT)
    return folder


def write_readme(folder: Path, exported: Exported) -> None:
    """Writes what the artifact takes and gives, and what else is in its folder."""
    files = " ".join(f"input_{i}.npy" for i in range(1, len(exported.shapes) + 1))
    names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    beside = ", ".join(name for name in names if name not in ("README.md", "model.jax"))
    platforms, takes, gives = ", ".join(PLATFORMS), exported.takes, exported.gives
    text = README.format(platforms=platforms, files=files, takes=takes, gives=gives, beside=beside)
    storage.write(folder / "README.md", text)
