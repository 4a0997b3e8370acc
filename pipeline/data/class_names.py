"""Names of classes in the user's files, where the same class may be written in several ways."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from ..display import quoted


def merge_spellings(
    labels: Mapping[str, Sequence[str]], lines: Mapping[str, Sequence[int]], option: str = ""
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Labels with one spelling for each class, the most frequent one, and notes on the others.

    Spellings of one class differ in case, in white space, or in the digits of the same number. labels, lines: of the
    files' rows, by file. option: of the command line, which keeps them apart.

    >>> merge_spellings({"a.csv": ["ill", "Ill ", "ill"]}, {"a.csv": [2, 3, 4]})[0]
    {'a.csv': ['ill', 'ill', 'ill']}
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for column in labels.values():
        for label in column:
            counts[_key(label)][label] += 1
    spelled = {key: min(spellings, key=lambda one: (-spellings[one], len(one))) for key, spellings in counts.items()}
    notes, remedy = [], f"use {option}" if option else "give the class another name"
    for key, spellings in counts.items():
        for other, count in spellings.items():
            if other != spelled[key] and len(spellings) > 1:
                name, place = next((name, column.index(other)) for name, column in labels.items() if other in column)
                notes.append(
                    f"{count} rows with the class {quoted(other)}, the first in line {lines[name][place]} of {name}, "
                    f"count as {quoted(spelled[key].strip())}: {remedy} if it is not the same"
                )
    return {name: [spelled[_key(label)].strip() for label in column] for name, column in labels.items()}, tuple(notes)


def _key(label: str) -> str:
    try:
        number = float(label)
    except ValueError:
        return " ".join(label.split()).casefold()
    return repr(number) if abs(number) < 2**53 else label.strip()
