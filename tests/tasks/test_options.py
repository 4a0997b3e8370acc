"""Every numeric option of every task, at values that are no use: refused by its name, or fit to train with."""

import dataclasses
import math
import re
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image
from running import once
from test_start import TASKS

from pipeline.errors import UserError
from pipeline.options import LARGEST, flag
from tasks.framework.task import Task

INTEGERS = (0, -1, LARGEST, 2**32, 2**64)
FLOATS = (0.0, -1.0, math.nan, math.inf, 2.0**32, 2.0**64, 1e300)
NAMED_OTHERWISE = {"batch_size": "batch size"}


def task_of(name: str) -> Task:
    """The task that the module ``tasks.name`` defines."""
    module = import_module(f"tasks.{name}")
    (kind,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Task) and kind.__module__ == module.__name__
    )
    return kind()


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A small data set for each task."""
    return once(tmp_path_factory, "options", write_files)


def write_files(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for i in range(24):
        image = folder / "images" / "ab"[i % 2] / f"{i}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16), np.uint8)).save(image)
    words = ["red", "blue", "green", "old", "new"]
    sentences = [" ".join(draw.choice(words, 4)) for _ in range(60)]
    (folder / "translation").mkdir()
    for language in ("en", "de"):
        (folder / "translation" / f"train.{language}").write_text("\n".join(sentences) + "\n")
    (folder / "language_model").write_text("\n".join(sentences * 4))
    rows = [f"{'ab'[i % 2]}\t{sentence}" for i, sentence in enumerate(sentences)]
    (folder / "sentiment.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n")
    pairs = [(user, item) for item in range(12) for user in range(8)]
    rows = [f"{user} {(item + user) % 12} {1 + user * item % 5} {item}" for user, item in pairs]
    (folder / "recommendation.csv").write_text("\n".join(rows) + "\n")
    (folder / "speech_recognition").mkdir()
    for i in range(24):
        soundfile.write(folder / "speech_recognition" / f"{i}.wav", draw.normal(0, 0.1, 4000), 8000)
    rows = [f"{i}.wav\t{'yes' if i % 2 else 'no'}" for i in range(24)]
    (folder / "speech_recognition" / "train.tsv").write_text("\n".join(["path\ttext", *rows]) + "\n")


def data_of(name: str, files: Path) -> str:
    of_images = name in ("image_recognition", "medical_diagnosis")
    return str(next(files.glob("images" if of_images else f"{name}*")))


def numeric(options: Any, prefix: str = "") -> Iterator[tuple[str, type, Any]]:
    """The dotted name, the type of number and the value of every numeric option; of a tuple's without one, its form."""
    types = typing.get_type_hints(type(options))
    for entry in dataclasses.fields(options):
        value, hint = getattr(options, entry.name), types[entry.name]
        if dataclasses.is_dataclass(value):
            yield from numeric(value, f"{prefix}{entry.name}.")
        if value is None:
            value = next((typing.get_args(kind) for kind in typing.get_args(hint) if is_tuple(kind)), None)
        for kind in atoms(hint) & {int, float}:
            yield prefix + entry.name, kind, value


def is_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def atoms(kind: Any) -> set[Any]:
    """The types that an annotation such as ``tuple[float, float] | None`` consists of."""
    parts = typing.get_args(kind)
    return set().union(*map(atoms, parts)) if parts and typing.get_origin(kind) is not typing.Literal else {kind}


def replaced(options: Any, name: str, value: Any) -> Any:
    first, _, rest = name.partition(".")
    inner = replaced(getattr(options, first), rest, value) if rest else value
    return dataclasses.replace(options, **{first: inner})


def variants(kind: type, value: Any) -> Iterator[Any]:
    """The useless values of an option; of one that is a tuple, in the place of each of its numbers."""
    for number in INTEGERS if kind is int else FLOATS:
        if isinstance(value, tuple):
            others = [other if isinstance(other, int | float) else kind(3) for other in value]
            yield from ((*others[:i], number, *others[i + 1 :]) for i in range(len(value)))
        else:
            yield number


def models_of(task: Task) -> tuple[str, ...]:
    return typing.get_args(typing.get_type_hints(task.config)["model"])


def mistake(task: Task, config: Any, option: str, value: Any) -> str | None:
    """What is wrong with how the task takes an option: neither a run's beginning nor a message that names it."""
    try:
        task.prepare(replaced(config, option, value))
    except UserError as error:
        if any(name in str(error) for name in (f"--{flag(option)}", NAMED_OTHERWISE.get(option, "--"))):
            return None
        return f"{config.model} {option} {value}: {error}"
    except Exception as error:
        return f"{config.model} {option} {value}: {type(error).__name__} {' '.join(str(error).split())[:200]}"
    return None


@pytest.mark.parametrize("name", TASKS)
def test_a_useless_number_is_refused_by_its_name_or_fit_to_train_with(name, files):
    task, mistakes, tried = task_of(name), [], set()
    recipe = dataclasses.replace(task.recipe(data_of(name, files)), batch_size=1)
    with jax.enable_x64(False):
        for option, kind, value in numeric(recipe):
            tried.add(option)
            # Other options do not depend on the model.
            for model in models_of(task) if option in task.sizes else [recipe.model]:
                config = dataclasses.replace(recipe, model=model)
                mistakes += [mistake(task, config, option, number) for number in variants(kind, value)]
    assert {"seed", "epochs", "save_seconds", "optimizer.learning_rate", "stop.target", *task.sizes} <= tried
    assert not any(mistakes), "\n".join(filter(None, mistakes))


@pytest.mark.parametrize("name", TASKS)
def test_predict_refuses_a_useless_number_before_it_looks_for_the_run(name, tmp_path):
    task = task_of(name)
    given = {entry.name: ("x",) for entry in dataclasses.fields(task.predictions)} | {"run": tmp_path / "none"}
    required = {entry.name for entry in dataclasses.fields(task.predictions) if entry.default is dataclasses.MISSING}
    command = task.predictions(**{name: given[name] for name in required})
    if isinstance(getattr(command, "user", None), str):
        command = dataclasses.replace(command, user="somebody")
    for option, kind, value in numeric(command):
        for number in variants(kind, value):
            if number in (0, LARGEST) or (option == "seed" and number == -1):
                continue
            with pytest.raises(UserError, match=re.escape(f"--{flag(option)} is {number}; it must be ")):
                task.predict(replaced(command, option, number))
