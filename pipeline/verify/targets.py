"""The command line's targets: objects by ``module:name`` or ``file.py:name``, arrays by ``float32[3,4]``.

Every mistake in a target is a UserError.
"""

import difflib
import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import UserError
from ..layers.base import Layer, PyTree
from .faults import describe_error
from .measure import path_of

HOW = "a target is written module:name or path/to/file.py:name"
SPEC = re.compile(r"\s*(\w+)\s*\[([\d,\s]*)\]\s*(?:<\s*(\d+))?\s*")


def resolve(target: str) -> Any:
    """The object that ``target`` names; imports its module.

    >>> resolve("math:pi")
    3.141592653589793
    """
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise UserError(f"{target}: {HOW}")
    value: Any = _file(target, Path(where)) if where.endswith(".py") else _module(target, where)
    for i, part in enumerate(name.split(".")):
        if not hasattr(value, part):
            inside = ".".join(name.split(".")[:i])
            raise UserError(f"{target}: {inside or where} has no {part!r}{_near(part, value)}")
        value = getattr(value, part)
    return value


def resolve_file(target: str) -> ModuleType:
    """The module in a file, which is imported."""
    return _file(target, Path(target))


def call(target: str, function: Any) -> Any:
    """What the function named by ``target`` returns when it is called without arguments."""
    try:
        return function()
    except Exception as error:
        raise UserError(f"{target}: calling it {describe_error(error)}") from error


def _near(name: str, owner: Any) -> str:
    public = [other for other in dir(owner) if not other.startswith("_")]
    near = difflib.get_close_matches(name, public, 3)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    own = [other for other in public if not isinstance(getattr(owner, other, None), ModuleType)]
    return f"; it has {', '.join(own[:12])}{', ...' * (len(own) > 12)}" if own else ""


def _module(target: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            file = f"; for the file write {name}.py:..." if Path(f"{name}.py").is_file() else ""
            hint = file or f", neither in {Path.cwd()} nor installed; {HOW}"
            raise UserError(f"{target}: there is no module {error.name}{hint}") from None
        raise _import_error(name, error) from error
    except (Exception, SystemExit) as error:
        raise _import_error(name, error) from error


def _file(target: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"{target}: there is no file {path}")
    path = path.resolve()
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    # Under the name by which a file beside it would import it, unless another module has that name.
    name = path.stem if path.stem not in sys.modules else f"{path.stem} ({path})"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a file that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _import_error(str(path), error) from error
    return module


def _import_error(name: str, error: BaseException) -> UserError:
    # A syntax error names its own line; its traceback ends in Python's import.
    text = describe_error(error) if isinstance(error, Exception) else f"it exits ({error})"
    if isinstance(error, SyntaxError):
        text = f"SyntaxError: {error}"
    return UserError(f"{name} cannot be imported: {text}")


def draw(specs: Sequence[str], seed: int) -> tuple[np.ndarray, ...]:
    """One array for each spec: ``float32[3,4]`` of normally distributed numbers, ``int32[5]<7``, ``bool[2,5]``.

    >>> draw(("int32[2,3]<5",), seed=0)[0].shape
    (2, 3)
    """
    # A random stream of their own: an input equal to a cotangent would hide a mistake.
    return tuple(_draw(spec, np.random.default_rng((seed, 0x5EC, i))) for i, spec in enumerate(specs))


def _draw(spec: str, random: np.random.Generator) -> np.ndarray:
    match = SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"--shapes {spec}: a shape is written float32[3,4], 'int32[5]<7' (ids below 7) or bool[2,5]")
    name, sizes, below = match.groups()
    try:
        dtype = jnp.dtype(name)
        shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    except TypeError:
        raise UserError(
            f"--shapes {spec}: {name} is not a dtype; dtypes are float32, bfloat16, int32, bool, ..."
        ) from None
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    if is_integer and not int(below or 0):
        raise UserError(f"--shapes {spec}: give the upper bound of the integers, as in '{name}[{sizes}]<7' (in quotes)")
    if is_integer and int(below) - 1 > jnp.iinfo(dtype).max:
        raise UserError(f"--shapes {spec}: the largest {name} is {jnp.iinfo(dtype).max}")
    if below and not is_integer:
        raise UserError(f"--shapes {spec}: only integers have an upper bound; leave out <{below}")
    if is_integer:
        return random.integers(0, int(below), shape).astype(dtype)
    if jnp.issubdtype(dtype, bool):
        return random.integers(0, 2, shape).astype(bool)
    numbers = random.normal(size=shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.asarray(numbers + 1j * random.normal(size=shape)).astype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(f"--shapes {spec}: {name} is not a dtype of numbers")
    return np.asarray(numbers).astype(dtype)


def draw_params(layer: Layer, x: PyTree) -> PyTree:
    """Random parameters of a layer for the input ``x``, in float64.

    They are drawn, not initialised: the zeros and ones of fresh biases and scales would hide what they multiply.
    """
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, _as_float32(leaf.dtype)), x)
    random = np.random.default_rng(1)

    def draw_leaf(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path_of(path).endswith(("scale", "mean_square")):
            return random.uniform(0.7, 1.3, leaf.shape)  # at least the square of any mean
        if leaf.ndim > 1:
            return random.normal(size=leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
        return random.uniform(-0.3, 0.3, leaf.shape)

    return jax.tree_util.tree_map_with_path(draw_leaf, jax.eval_shape(layer.init, jax.random.key(0), example))


def _as_float32(dtype: np.dtype) -> np.dtype:
    return np.dtype("float32") if dtype == "float64" else dtype
