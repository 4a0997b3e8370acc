"""All readers of the user's data, with a small valid input each."""

import gzip
import io
import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from fuzzing.mutations import Damage, inside_gzip, inside_png, inside_zip
from pipeline.data import diagnosis, images, labelled_text, parallel_text, ratings, speech, text, vocabulary
from pipeline.data.arpa import read_arpa
from pipeline.data.audio import read_audio
from pipeline.data.cases import read_cases
from pipeline.data.dataset import Dataset, Scaling
from pipeline.data.feature_sets import load_features
from pipeline.data.lexicon import read_lexicon
from pipeline.data.table import Column, Columns
from pipeline.data.vocabulary import Characters, SpelledWords, Subwords

RATE = 8_000
SPEAKERS = ("ann", "bob")
WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "12", "dogs")


@dataclass(frozen=True)
class Reader:
    """A reader and its input.

    make: the content of the input's files, by name. read: reads the input in a folder, and returns the data.
    spare: suffixes of files that are not damaged. inside: damages what is packed in a file; None if nothing is.
    """

    name: str
    make: Callable[[], dict[str, bytes]]
    read: Callable[[Path], Any]
    spare: tuple[str, ...] = ()
    inside: Callable[[bytes, Damage], bytes] | None = None


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def lines(rows: Iterable[Sequence[object]], separator: str) -> bytes:
    """Rows of fields as the lines of a file."""
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()


def sentences(count: int) -> list[str]:
    return [" ".join(WORDS[: 2 + i % 8]) + f" {i}" for i in range(count)]


# Images and signals


def image_files(suffix: str) -> dict[str, bytes]:
    """Two classes of four images, one of them in colour, with what cameras and programs write into them."""
    files, exif, texts = {}, Image.Exif(), PngInfo()
    exif[ExifTags.Base.Orientation] = 1
    texts.add_text("comment", "packed " * 9, zip=True)
    for i in range(8):
        file = io.BytesIO()
        image = Image.fromarray(random_pixels(4, 5, 3)[..., : 3 if i == 0 else 1].squeeze())
        image.save(file, suffix, exif=exif, pnginfo=texts)
        files[f"{'cat' if i % 2 else 'dog'}/{i}.{suffix}"] = file.getvalue()
    return files


def npz_file(save: Callable[..., None]) -> dict[str, bytes]:
    file, labels = io.BytesIO(), np.arange(24)[:, None] % 2
    save(file, train_images=random_pixels(24, 3, 3) / 255, train_labels=labels)
    return {"a.npz": file.getvalue()}


def npz_file_of_others() -> dict[str, bytes]:
    """Names, axes and labels as other programs have them."""
    file, labels = io.BytesIO(), np.eye(2)[np.arange(24) % 2]
    np.savez(
        file, x_train=random_pixels(24, 3, 8, 8), y_train=labels, x_test=random_pixels(8, 3, 8, 8), y_test=labels[:8]
    )
    return {"a.npz": file.getvalue()}


def npy_file() -> dict[str, bytes]:
    file = io.BytesIO()
    np.save(file, np.linspace(-1, 1, 12))
    return {"a.npy": file.getvalue()}


def idx_files(suffix: str) -> dict[str, bytes]:
    arrays = {"images-idx3": random_pixels(24, 3, 3), "labels-idx1": np.arange(24, dtype=np.uint8) % 2}
    contents = {
        f"train-{name}-ubyte{suffix}": bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        + array.tobytes()
        for name, array in arrays.items()
    }  # fmt: skip
    return {name: gzip.compress(content, mtime=0) if suffix else content for name, content in contents.items()}


def read_images(name: str, folder: Path) -> list[np.ndarray]:
    return inputs(images.load(str(folder / name), seed=0))


def read_image_folder(folder: Path) -> list[np.ndarray]:
    """The images as a data set, which leaves out those that cannot be read, and as files to predict."""
    data = images.load(str(folder), seed=0)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [*inputs(data), images.read_inputs(files, data.input_shape, data.scaling)]


def inputs(data: Dataset) -> list[np.ndarray]:
    """What a model is given of a data set."""
    return [split.inputs for split in (data.train, data.validation, data.test)]


def read_npy(folder: Path) -> np.ndarray:
    return images.read_inputs([folder / "a.npy"], (12, 1), Scaling((0.0,), (0.5,)))


def table_file(name: str, separator: str) -> dict[str, bytes]:
    rows = [(20 + i, "mf"[i % 2], "NA" if i == 3 else 100 + 1.5 * i, ("ill", "well")[i % 3 % 2]) for i in range(24)]
    return {name: lines([("age", "sex", "pressure", "label"), *rows], separator)}


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}


def packed_table(name: str, separator: str) -> dict[str, bytes]:
    return packed(table_file(name, separator))


def workbook(suffix: str) -> dict[str, bytes]:
    import pandas  # pyright: ignore[reportMissingImports]

    (content,) = table_file("a.csv", ",").values()
    frame, file = pandas.read_csv(io.BytesIO(content)), io.BytesIO()
    frame.to_parquet(file) if suffix == ".parquet" else frame.to_excel(file, index=False)
    return {f"a{suffix}": file.getvalue()}


def arff_file() -> dict[str, bytes]:
    (content,) = table_file("a.arff", ",").values()
    _, *rows = content.decode().splitlines()
    kinds = {"age": "numeric", "sex": "{m,f}", "'blood pressure'": "real", "label": "{ill,well}"}
    heading = ["@relation patients", *(f"@attribute {name} {kind}" for name, kind in kinds.items()), "@data"]
    return {"a.arff": "\n".join([*heading, *rows]).encode()}


def signal_rows(name: str, separator: str = ",") -> dict[str, bytes]:
    return {name: lines([(*(math.sin(i + j) for j in range(6)), i % 2) for i in range(24)], separator)}


def described_signals() -> dict[str, bytes]:
    """Signals of two channels and several lengths, as sktime has them."""
    rows = ["@equalLength false", "@data"]
    for i in range(24):
        samples = ",".join(f"{math.sin(i + j):.3f}" for j in range(5 + i % 3))
        rows.append(f"{samples}:{samples}:{'ab'[i % 2]}")
    return {"a.ts": "\n".join(rows).encode()}


def read_diagnosis(name: str, folder: Path) -> list[np.ndarray]:
    return inputs(diagnosis.load(str(folder / name), seed=0))


def read_table_cases(folder: Path) -> list[np.ndarray]:
    columns = Columns((Column("age"), Column("sex", categories=("f", "m")), Column("pressure", 1.0, True)))
    scaling = Scaling((0.0,) * 5, (1.0,) * 5)
    return [case.inputs for case in read_cases(folder / "a.csv", (5,), scaling, columns)]


def read_signal_cases(folder: Path) -> list[np.ndarray]:
    cases = read_cases(folder / "a.csv", (7, 1), Scaling((0.0,), (1.0,)), None)
    return [case.inputs for case in cases]


# Texts


def labelled_table(name: str, separator: str) -> dict[str, bytes]:
    rows = [(("good", "bad")[i % 2], sentence) for i, sentence in enumerate(sentences(16))]
    return {name: lines([("label", "text"), *rows], separator)}


def labelled_folders() -> dict[str, bytes]:
    return {f"{('good', 'bad')[i % 2]}/{i}.txt": sentence.encode() for i, sentence in enumerate(sentences(8))}


def labelled_lines() -> dict[str, bytes]:
    return {f"a.{ending}": "\n".join(sentences(10)).encode() for ending in ("pos", "neg")}


def read_labelled(name: str, folder: Path) -> list[np.ndarray]:
    data = labelled_text.load(str(folder / name), seed=0, words=50, longest=20)
    return [ids for split in (data.train, data.validation, data.test) for ids in (*split.words, split.bags)]


def parallel_files(suffix: str) -> dict[str, bytes]:
    contents = {f"train.{language}{suffix}": "\n".join(sentences(12)).encode() for language in ("en", "de")}
    return {name: gzip.compress(content, mtime=0) if suffix else content for name, content in contents.items()}


def read_parallel(folder: Path) -> list[np.ndarray]:
    data = parallel_text.load(str(folder))
    alphabet = Characters.of("abc")
    return [alphabet.encode(side) for pair in (*data.train, *data.validation, *data.test) for side in pair]


def text_file() -> dict[str, bytes]:
    return {"a.txt": "\n".join(sentences(30)).encode()}


def read_own_text(folder: Path) -> list[np.ndarray]:
    corpus = text.load(str(folder / "a.txt"))
    return [corpus.train, corpus.validation, corpus.test]


VOCABULARIES: dict[str, Callable[[], Any]] = {
    "characters": lambda: Characters.of("".join(sentences(10))),
    "subwords": lambda: Subwords.learn(sentences(10), 262),
    "words": lambda: SpelledWords.learn(sentences(10), 20, 30),
}


def vocabulary_file(kind: str) -> dict[str, bytes]:
    return {"vocabulary.json": json.dumps({kind: VOCABULARIES[kind]().content()}).encode()}


def read_vocabulary(folder: Path) -> np.ndarray:
    return vocabulary.read(folder).encode("the cat saw 3 birds: \N{SNOWMAN}")


# Speech


def tone(seconds: float = 0.02) -> np.ndarray:
    return np.sin(np.arange(round(seconds * RATE))) / 2


def audio_file(kind: str, subtype: str | None) -> dict[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, tone(0.1), RATE, subtype, format=kind)
    return {"a.wav": file.getvalue()}


def read_recording(folder: Path) -> np.ndarray:
    return read_audio(folder / "a.wav", 16_000)


def manifest(kind: str) -> dict[str, bytes]:
    """Twelve recordings and a file that names them."""
    (recording,) = audio_file("WAV", "PCM_16").values()
    rows = [(f"{i}.wav", sentence, SPEAKERS[i % 2]) for i, sentence in enumerate(sentences(12))]
    names = ("path", "text", "speaker")
    content = (
        "".join(json.dumps(dict(zip(names, row))) + "\n" for row in rows).encode()
        if kind == "jsonl"
        else lines([names, *rows], {"csv": ",", "tsv": "\t"}[kind])
    )
    return {f"all.{kind}": content, **{row[0]: recording for row in rows}}


def read_manifest(folder: Path) -> list[np.ndarray]:
    if not (folder / "pipe.wav").exists():
        os.mkfifo(folder / "pipe.wav")  # one of the tokens names it
    data = speech.load(str(folder), rate=RATE, seed=0)
    alphabet = Characters.of("".join(data.texts))
    return [*data.train.signals, *data.test.signals, *map(alphabet.encode, data.test.texts)]


# Features, lexicons and language models


def matrices() -> dict[str, np.ndarray]:
    return {f"u{i}": np.random.default_rng(i).normal(size=(4 + i % 3, 3)).astype("<f4") for i in range(12)}


def feature_texts() -> dict[str, bytes]:
    return {"feats.txt": lines([(name, "word", name) for name in matrices()], " ")}


def feature_npz() -> dict[str, bytes]:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **matrices())
    return feature_texts() | {"feats.npz": file.getvalue()}


def kaldi_archive(kind: str) -> dict[str, bytes]:
    """Kaldi's archive of matrices, in text, of floats or compressed, and the script that names them."""
    content, script = b"", []
    for name, matrix in matrices().items():
        content += f"{name} ".encode()
        script.append((name, f"feats.ark:{len(content)}"))
        rows, columns = matrix.shape
        if kind == "text":
            content += b"[\n" + lines(matrix.tolist(), " ") + b"]\n"
        elif kind == "FM":
            content += b"\0BFM " + struct.pack("<bibi", 4, rows, 4, columns) + matrix.tobytes()
        else:
            content += b"\0BCM " + struct.pack("<ffii", -3, 6, rows, columns) + bytes(range(8)) * columns
            content += bytes(range(rows)) * columns
    return feature_texts() | {"feats.ark": content, "feats.scp": lines(script, " ")}


def htk_files(kind: int) -> dict[str, bytes]:
    """HTK's parameter files, with a text beside each. kind: 9 for floats, or with 0o2000 compressed."""
    files = {}
    for name, matrix in matrices().items():
        packed = bool(kind & 0o2000)
        content = matrix.astype(">f4").tobytes()
        if packed:
            content = np.ones((2, 3), ">f4").tobytes() + (1000 * matrix).astype(">i2").tobytes()
        header = struct.pack(">iihH", len(matrix) + 4 * packed, 100_000, 6 if packed else 12, kind)
        files |= {f"{name}.mfc": header + content, f"{name}.txt": b"a word"}
    return files


def read_given_features(folder: Path) -> list[np.ndarray]:
    data = load_features(str(folder), seed=0)
    return [*data.train.signals, *data.validation.signals, *data.test.signals]


def lexicon_file() -> dict[str, bytes]:
    return {"a.txt": b"HELLO\tHH AH L OW\nREAD  R IY D\nREAD(2)  R EH D # past\n;;; comment\nNO N OW\n"}


def read_words(folder: Path) -> np.ndarray:
    lexicon = read_lexicon(folder / "a.txt")
    return np.array([len(spellings) for spellings in lexicon.spellings.values()])


def arpa_file() -> dict[str, bytes]:
    unigrams = "\\1-grams:\n-99\t<s>\t-0.3\n-1\t</s>\n-1.2\ta\t-0.2\n"
    bigrams = "\\2-grams:\n-0.3\t<s> a\n-0.2\ta </s>\n"
    return {"a.arpa": f"\\data\\\nngram 1=3\nngram 2=2\n\n{unigrams}\n{bigrams}\n\\end\\\n".encode()}


def read_language_model(folder: Path) -> list[np.ndarray]:
    model = read_arpa(folder / "a.arpa")
    return [np.array(list(table.values())) for table in (model.log_p, model.backoffs)]


# Ratings


def rating_rows() -> list[tuple[object, ...]]:
    return [(1 + i % 5, f"i{i // 5}", 1 + i % 5, 1000 + 13 * i) for i in range(30)]


def rating_file(name: str, separator: str, *columns: str) -> dict[str, bytes]:
    return {name: lines([columns, *rating_rows()] if columns else rating_rows(), separator)}


def movielens_files() -> dict[str, bytes]:
    titles = lines([(f"i{i}", f"Film {i}", "01-Jan-1995", "") for i in range(6)], "|")
    return {"u.data": lines(rating_rows(), "\t"), "u.item": titles}


def read_ratings(name: str, folder: Path) -> list[Any]:
    data = ratings.load(str(folder / name), seed=0)
    splits = [(split.values, split.times) for split in (data.train, data.validation, data.test)]
    return [*splits, data.scale]


def read_ranking(folder: Path) -> list[Any]:
    data = ratings.load(str(folder / "a.tsv"), seed=0, ranking=True)
    return [data.train.values, data.train.times, data.test.times]


IMAGES = ("jpeg", "webp", "bmp", "tiff", "gif")
MANIFESTS = ("tsv", "csv", "jsonl")
AUDIO = {
    "wav/16": ("WAV", "PCM_16"),
    "wav/24": ("WAV", "PCM_24"),
    "wav/float": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", None),
}
KALDI = ("text", "FM", "CM")
RATINGS = {
    "tsv": ("a.tsv", "\t"),
    "csv": ("a.csv", ",", "userId", "movieId", "rating", "timestamp"),
    "dat": ("a.dat", "::"),
    "semicolons": ("a.txt", ";"),
    "spaces": ("a.txt", " "),
}

READERS = {
    reader.name: reader
    for reader in (
        Reader("images/png", partial(image_files, "png"), read_image_folder, inside=inside_png),
        *(Reader(f"images/{kind}", partial(image_files, kind), read_image_folder) for kind in IMAGES),
        Reader("npz", partial(npz_file, np.savez), partial(read_images, "a.npz"), inside=inside_zip),
        Reader("npz/compressed", partial(npz_file, np.savez_compressed), partial(read_images, "a.npz")),
        Reader("npz/other", npz_file_of_others, partial(read_images, "a.npz"), inside=inside_zip),
        Reader("npy", npy_file, read_npy),
        Reader("idx", partial(idx_files, ""), partial(read_images, "")),
        Reader("idx/gzip", partial(idx_files, ".gz"), partial(read_images, ""), inside=inside_gzip),
        Reader("table/csv", partial(table_file, "a.csv", ","), partial(read_diagnosis, "a.csv")),
        Reader("table/tsv", partial(table_file, "a.tsv", "\t"), partial(read_diagnosis, "a.tsv")),
        Reader("table/semicolons", partial(table_file, "a.csv", ";"), partial(read_diagnosis, "a.csv")),
        Reader(
            "table/gzip", partial(packed_table, "a.csv", ","), partial(read_diagnosis, "a.csv.gz"), inside=inside_gzip
        ),
        Reader("table/arff", arff_file, partial(read_diagnosis, "a.arff")),
        *(
            Reader(f"table/{kind}", partial(workbook, f".{kind}"), partial(read_diagnosis, f"a.{kind}"), inside=inside)
            for kind, inside in (("xlsx", inside_zip), ("parquet", None))
            if find_spec("pandas")  # which not everyone has
        ),
        Reader("table/cases", partial(table_file, "a.csv", ","), read_table_cases),
        Reader("signals/csv", partial(signal_rows, "a.csv"), partial(read_diagnosis, "a.csv")),
        Reader("signals/spaces", partial(signal_rows, "a.txt", " "), partial(read_diagnosis, "a.txt")),
        Reader("signals/ts", described_signals, partial(read_diagnosis, "a.ts")),
        Reader("signals/cases", partial(signal_rows, "a.csv"), read_signal_cases),
        Reader("labelled/csv", partial(labelled_table, "a.csv", ","), partial(read_labelled, "a.csv")),
        Reader("labelled/tsv", partial(labelled_table, "a.tsv", "\t"), partial(read_labelled, "a.tsv")),
        Reader("labelled/folders", labelled_folders, partial(read_labelled, "")),
        Reader("labelled/lines", labelled_lines, partial(read_labelled, "")),
        Reader("parallel", partial(parallel_files, ""), read_parallel),
        Reader("parallel/gzip", partial(parallel_files, ".gz"), read_parallel, inside=inside_gzip),
        Reader("text", text_file, read_own_text),
        *(Reader(f"speech/{kind}", partial(manifest, kind), read_manifest, (".wav",)) for kind in MANIFESTS),
        *(Reader(f"audio/{name}", partial(audio_file, *kind), read_recording) for name, kind in AUDIO.items()),
        *(
            Reader(f"ratings/{name}", partial(rating_file, *kind), partial(read_ratings, kind[0]))
            for name, kind in RATINGS.items()
        ),
        Reader("features/npz", feature_npz, read_given_features, (".txt",), inside=inside_zip),
        *(Reader(f"features/{kind}", partial(kaldi_archive, kind), read_given_features) for kind in KALDI),
        *(Reader(f"features/htk/{kind:o}", partial(htk_files, kind), read_given_features) for kind in (9, 0o2006)),
        Reader("lexicon", lexicon_file, read_words),
        Reader("arpa", arpa_file, read_language_model),
        Reader("ratings/movielens", movielens_files, partial(read_ratings, "")),
        Reader("ratings/ranking", partial(rating_file, "a.tsv", "\t"), read_ranking),
        *(Reader(f"vocabulary/{kind}", partial(vocabulary_file, kind), read_vocabulary) for kind in VOCABULARIES),
    )
}
"""A new reader is one line."""
