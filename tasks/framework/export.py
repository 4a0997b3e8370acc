"""A trained model as a file of its own, which needs nothing of this project.

``model.jax`` is the forward pass, an artifact of ``jax.export``; ``model.safetensors`` has the parameters alone.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from pipeline import compiler, storage
from pipeline.display import visible
from pipeline.extras import extra
from pipeline.layers.base import PyTree

Format = Literal["jax", "safetensors"]

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

- Input: {takes}
- Output: {gives}
- Beside it: {beside}
"""
JAX_README = """
`model.jax` is the trained forward pass, an artifact of `jax.export` for {platforms}. Nothing but JAX is needed to run
it: `python predict.py {files}` reads its inputs from NumPy's files and writes `outputs.npy`.
"""
PARAMETERS_README = """
`model.safetensors` has the parameters, arrays by their paths. A number in a path is a place in a list of layers. With
`pip install safetensors`:

```python
from safetensors.numpy import load_file

params = load_file("model.safetensors")
for path, array in params.items():
    print(path, array.shape)
```
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


def write_parameters(run_directory: Path, params: PyTree, names: Mapping[str, str]) -> Path:
    """Writes RUN/export/model.safetensors, and returns that folder. names: its metadata.

    Raises MissingExtra where safetensors is not installed.
    """
    with extra("export"):
        from safetensors.numpy import save

    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.array(leaf, order="C")
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    metadata = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in names.items()}
    folder = run_directory / "export"
    folder.mkdir(exist_ok=True)
    storage.write(folder / "model.safetensors", save(arrays, metadata=metadata))
    print(f"exported        {visible(str(folder / 'model.safetensors'))}  ({len(arrays)} arrays)")
    return folder


def write_readme(folder: Path, exported: Exported) -> None:
    """Writes what the artifact takes and gives, and what else is in its folder."""
    files = " ".join(f"input_{i}.npy" for i in range(1, len(exported.shapes) + 1))
    names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    beside = ", ".join(name for name in names if name not in ("README.md", "model.jax", "model.safetensors"))
    text = README.format(takes=exported.takes, gives=exported.gives, beside=beside)
    if "model.jax" in names:
        text += JAX_README.format(platforms=", ".join(PLATFORMS), files=files)
    if "model.safetensors" in names:
        text += PARAMETERS_README
    storage.write(folder / "README.md", text)
