"""Files as users have them, through the command line: what the account says of them, or what the refusal says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import refused_by, within

from tasks.image_recognition import ImageRecognition
from tasks.medical_diagnosis import MedicalDiagnosis
from tasks.recommendation import Recommendation

TASKS = {
    "image_recognition": ImageRecognition(),
    "medical_diagnosis": MedicalDiagnosis(),
    "recommendation": Recommendation(),
}
Maker = Callable[[Path], object]


def table(
    heading: str = "age,bp,label", row: str = "{0},12{0}.5,{1}", classes: tuple[str, ...] = ("ill", "well")
) -> Maker:
    """A table of 40 rows: {0} is the row's number from 10, {1} its class, {2} its number from 0."""
    lines = [heading, *(row.format(10 + i, classes[i % len(classes)], i) for i in range(40))]
    return lambda path: path.write_text("\n".join(lines if heading else lines[1:]) + "\n", encoding="utf-8")


def ratings(heading: str, row: str) -> Maker:
    """240 ratings: {0} is the user, {1} the item, {2} the rating, {3} the second, {4} the day, {5} the line."""
    rows = [
        row.format(u + 1, (u + i) % 20 + 101, (u * i) % 5 + 1, 978300000 + 60 * i, f"2024-01-{i + 1:02}", 8 * u + i)
        for u in range(30)
        for i in range(8)
    ]
    return lambda path: path.write_text("\n".join([heading] * bool(heading) + rows) + "\n", encoding="utf-8")


def images(
    ending: str = ".png", inside: str = "", sizes: tuple[int, ...] = (12,), count: int = 12, mode: str = "RGB"
) -> Maker:
    """A folder of two classes with ``count`` pictures of noise each."""

    def make(folder: Path) -> None:
        generator = np.random.default_rng(0)
        for name in ("cat", "dog"):
            (folder / name / inside).mkdir(parents=True)
            for i in range(count):
                size = sizes[i % len(sizes)]
                pixels = generator.integers(0, 256, (size, size, len(mode)), np.uint8)
                Image.fromarray(pixels, mode).save(folder / name / inside / f"{i}{ending}")

    return make


def arrays(**changes: Callable[[np.ndarray], np.ndarray]) -> Maker:
    """An .npz file of 40 pictures, whose images and labels are changed."""

    def make(path: Path) -> None:
        own: dict[str, Any] = {
            "images": np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8),
            "labels": np.arange(40) % 2,
        }
        changed: dict[str, Any] = {f"train_{kind}": changes.get(kind, np.asarray)(own[kind]) for kind in own}
        np.savez(path, **changed)

    return make


CASES = [
    ("semicolon.csv", table("age;bp;label", "{0};12{0},5;{1}"), "medical_diagnosis", "", ["40 decimal commas"]),
    ("tabs.txt", table("age\tbp\tlabel", "{0}\t1{0}\t{1}"), "medical_diagnosis", "", ["27 train"]),
    ("UPPER.CSV", table(), "medical_diagnosis", "", ["27 train"]),
    (
        "index.csv",
        table(",age,bp,label", "{2},{0},7,{1}"),
        "medical_diagnosis",
        "",
        ["the first column, which has no name, is left out"],
    ),
    ("trailing.csv", table("age,bp,label,", "{0},7{0},{1},"), "medical_diagnosis", "", ["delimiter at the ends"]),
    ("bare.csv", table("", "{0},7{0},{1}"), "medical_diagnosis", "", "--no-header"),
    ("last.csv", table("", "{0},7{0},{1}"), "medical_diagnosis", "--no-header --label last", ["27 train"]),
    ("two.csv", table(), "medical_diagnosis", "--ignore age --ignore bp", "no column besides 'label'"),
    ("huge.csv", table(row="1e39,{0},{1}"), "medical_diagnosis", "", "line 2 has '1e39' in column 'age'"),
    ("case.csv", table(classes=("ill", "well", "Well ")), "medical_diagnosis", "", ["count as"]),
    ("zero.csv", table(classes=("0", "1", "0.0")), "medical_diagnosis", "", ["count as"]),
    ("none.csv", table(classes=("None", "Apnea")), "medical_diagnosis", "", ["counts as a class"]),
    (
        "goodbooks.csv",
        ratings("user_id,book_id,rating", "{0},{1},{2}"),
        "recommendation",
        "",
        ["'book_id' is the item"],
    ),
    ("anime.csv", ratings("user_id,anime_id,rating", "{0},{1},{2}"), "recommendation", "", ["'anime_id' is the item"]),
    (
        "amazon.csv",
        ratings("user_id,parent_asin,rating,timestamp", "{0},{1},{2},{3}"),
        "recommendation",
        "",
        ["'parent_asin' is the item"],
    ),
    (
        "recbole.inter",
        ratings("user_id:token\titem_id:token\trating:float", "{0}\t{1}\t{2}"),
        "recommendation",
        "",
        ["30 users, 20 items"],
    ),
    (
        "crossing.csv",
        ratings('"User-ID";"ISBN";"Book-Rating"', '"{0}";"{1}";"{2}"'),
        "recommendation",
        "",
        ["'ISBN' is the item"],
    ),
    (
        "dates.csv",
        ratings("user,item,rating,date", "{0},{1},{2},{4}"),
        "recommendation",
        "",
        ["'date' is the timestamp"],
    ),
    (
        "iso.csv",
        ratings("user,item,rating,timestamp", "{0},{1},{2},{4}T10:00:00Z"),
        "recommendation",
        "",
        ["30 users, 20 items"],
    ),
    ("pairs.csv", ratings("user,item", "{0},{1}"), "recommendation", "", "--objective ranking"),
    ("ranking.csv", ratings("user,item", "{0},{1}"), "recommendation", "--objective ranking", ["30 users, 20 items"]),
    ("counted.csv", ratings("", "{5},{0},{1},{2}"), "recommendation", "", ["first column of counted.csv is left out"]),
    ("sizes", images(sizes=(12, 20)), "image_recognition", "", ["16 train", "all are brought to 20x20"]),
    ("webp", images(".webp"), "image_recognition", "", ["16 train"]),
    ("bmp", images(".bmp"), "image_recognition", "", ["16 train"]),
    ("tiff", images(".tiff"), "image_recognition", "", ["16 train"]),
    ("nested", images(inside="subject1"), "image_recognition", "", ["24 of 24 images"]),
    ("transparent", images(mode="RGBA"), "image_recognition", "", ["transparent parts become white: 24 images"]),
    (
        "floats.npz",
        arrays(images=lambda x: x.astype(np.float32)),
        "image_recognition",
        "",
        ["0 is taken for black and 255 for white"],
    ),
    (
        "first.npz",
        arrays(images=lambda x: x.transpose(0, 3, 1, 2)),
        "image_recognition",
        "",
        ["taken for (examples, channels, height, width)"],
    ),
    ("ids.npz", arrays(labels=lambda x: 5 + 895 * x), "image_recognition", "", ["5 13, 900 14"]),
    ("scalar.npz", arrays(labels=lambda x: x[0]), "image_recognition", "", "train_labels has the shape ()"),
]


@pytest.mark.parametrize(("name", "make", "task", "options", "expected"), CASES, ids=[case[0] for case in CASES])
def test_input_is_read_as_the_account_says_or_refused(tmp_path, capsys, name, make, task, options, expected):
    """expected: a list of what the account says, or what the refusal says, which names the file as well."""
    make(tmp_path / name)
    arguments = ("train", "--data", tmp_path / name, "--dry-run", *options.split())
    if isinstance(expected, str):
        message = refused_by(TASKS[task], capsys, *arguments)
        assert name in message and expected in message
    else:
        done = within(TASKS[task], capsys, *arguments)
        said = " ".join((done.out + done.err).split())
        assert done.code == 0 and all(part in said for part in expected), said
