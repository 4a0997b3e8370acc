"""The page of a verification: its verdict, each diagnosis with pictures of where the error is, and every check."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np

from ...report.page import Cell, Page, Plot, Section, Table, render
from ..measure import distances, largest
from .drawings import Sheet, heat_map, planes, profile, short
from .results import Diagnosis, Results, Row, Verdict

PICTURED = 16
"""The most diagnoses that are drawn: each takes about half a second."""

LONG = 64
"""The most characters of a title. A longer subject, such as a model, is shortened there and shown in full below."""

TONES: dict[Verdict, Literal["good", "bad", "doubtful"]] = {
    "pass": "good",
    "fail": "bad",
    "inconclusive": "doubtful",
    "oracles disagree": "doubtful",
}
MEANINGS: dict[Verdict, str] = {
    "pass": "The manual gradient agrees with autodiff in every leaf, up to rounding.",
    "fail": "The manual gradient does not agree with autodiff. The diagnosis comes first, then every check.",
    "inconclusive": "No mistake was found, but not everything could be judged. See below what, and why.",
    "oracles disagree": (
        "Autodiff and finite differences contradict each other, so neither can judge the manual gradient. The function "
        "itself, or a custom rule inside it, is wrong."
    ),
}


def page(results: Results) -> str:
    """The results as one HTML page that needs no network and no other file."""
    title = results.subject if len(results.subject) <= LONG else f"{results.subject[: LONG - 1].rstrip()}…"
    return render(
        Page(
            title=title,
            badge=Cell(results.verdict.upper(), TONES[results.verdict]),
            headline=list(_headline(results)),
            summary=MEANINGS[results.verdict],
            sections=list(_sections(results, title)),
        )
    )


def _headline(results: Results) -> Iterator[tuple[str, str]]:
    yield f"{len(results.rows) - len(results.failures)} of {len(results.rows)}", "checks passed"
    leaves = {row.leaf for row in results.failures if row.leaf}
    if leaves:
        yield str(len(leaves)), "wrong leaf" if len(leaves) == 1 else "wrong leaves"
    worst = results.worst()
    if worst is not None:
        error = short(worst.relative_error) if math.isfinite(worst.relative_error) else "not finite"
        yield error, "largest relative error in float64"
    if results.seconds:
        yield f"{results.seconds:.1f} s", "duration"


def _sections(results: Results, title: str) -> Iterator[Plot | Table | Section]:
    if results.places:
        caption = "All other layers are right, or only inherit the error of these."
        yield Section("Layers whose own rule is wrong", caption=caption, items=[str(place) for place in results.places])
    for i, diagnosis in enumerate(results.diagnoses):
        yield _diagnosis(diagnosis, f"diagnosis_{i}", pictured=i < PICTURED)
    if results.unexplained:
        title_of_failures = "Other failed checks" if results.diagnoses else "Failed checks"
        yield Section(title_of_failures, items=[str(row) for row in results.unexplained])
    if results.notes:
        yield Section("Notes", caption="None of these is a failure.", items=results.notes)
    if results.not_looked_at:
        yield Section("Not looked at", items=results.not_looked_at)
    if results.rows:
        yield _checks(results)
    if title != results.subject:
        yield Section("Subject of the check", code=results.subject)


def _diagnosis(diagnosis: Diagnosis, name: str, pictured: bool) -> Section:
    plots, legend = _pictures(diagnosis, name) if pictured else ([], f"Only the first {PICTURED} are drawn.")
    return Section(
        diagnosis.leaf or "The rule",
        badge=Cell(diagnosis.kind, "bad"),
        lead=diagnosis.text,
        facts=list(_facts(diagnosis)),
        plots=plots,
        legend=legend,
    )


def _facts(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    worst = diagnosis.worst
    if worst is not None and worst.index is not None:
        value, reference = worst.value, worst.reference
        yield "worst element", str(list(worst.index))
        yield "manual value there", f"{value:.10g}"
        yield "autodiff's value there", f"{reference:.10g}"
        if reference and np.isfinite(value) and np.isfinite(reference):
            yield "ratio", f"{value / reference + 0.0:.6g}"  # 0, not -0
    if diagnosis.probe:
        yield "arguments", diagnosis.probe
    if diagnosis.manual is not None and diagnosis.reference is not None:
        yield "explains", "every element" if diagnosis.exact else "not every element"


def _pictures(diagnosis: Diagnosis, name: str) -> tuple[list[Plot], str]:
    """Heat maps of both cotangents and of their difference, the error's profiles, and how to read them."""
    cotangents = {"manual": diagnosis.manual, "autodiff": diagnosis.reference}
    arrays = {title: np.asarray(array) for title, array in cotangents.items() if array is not None}
    shapes = {title: array.shape for title, array in arrays.items()}
    empty = [f"the array of {title} is empty, {list(shape)}" for title, shape in shapes.items() if 0 in shape]
    arrays = {title: array for title, array in arrays.items() if array.size}
    if not arrays:
        return [], _sentence(empty)
    if any(map(np.iscomplexobj, arrays.values())):
        arrays = {title: array.astype(np.complex128) for title, array in arrays.items()}
    maps = {title: planes(array) for title, array in arrays.items()}
    limits = {title: largest(array) for title, (array, _) in maps.items()}
    is_shared = max(limits.values()) <= 4 * min(limits.values())
    if is_shared:
        limits = dict.fromkeys(limits, max(limits.values()))
    comparable = len(maps) == 2 and len(set(shapes.values())) == 1
    worst = _worst(diagnosis) if comparable else None
    sheets = {title: Sheet.of(array, names) for title, (array, names) in maps.items()}
    plots = [
        Plot(f"{name}_{i}", _titled(title, shapes), "", partial(heat_map, sheet, limits[title], worst))
        for i, (title, sheet) in enumerate(sheets.items())
    ]
    words = [*empty]
    if len(maps) == 2 and not is_shared:
        words.append("each of the two is coloured on its own scale")
    if comparable:
        (one, names), (other, _) = maps.values()
        apart = distances(one, other)
        sheet = Sheet.of(apart, names)
        sheets["difference"] = sheet
        plots.append(
            Plot(f"{name}_2", "|difference|", "", partial(heat_map, sheet, largest(apart), worst, signed=False))
        )
        plots += [
            Plot(f"{name}_axis_{axis}", f"error along axis {axis}", "", partial(profile, shares, axis))
            for axis, shares in enumerate(diagnosis.profile)
            if shares.size > 1
        ]
    return plots, _sentence(words + _reading(sheets, worst is not None))


def _titled(title: str, shapes: dict[str, tuple[int, ...]]) -> str:
    return title if len(set(shapes.values())) == 1 else f"{title}, shape {list(shapes[title])}"


def _reading(sheets: dict[str, Sheet], framed: bool) -> list[str]:
    """How to read the pictures, as far as their labels do not say it."""
    words = [text for text in dict.fromkeys(sheet.description() for sheet in sheets.values()) if text]
    words.append("red is above zero, blue below")
    if framed:
        words.append("the frame marks the worst element")
    if any(sheet.is_reduced for sheet in sheets.values()):
        words.append("each cell is the largest number of a block of neighbours")
    if any(not np.isfinite(sheet.blocks).all() for sheet in sheets.values()):
        words.append("numbers that are not finite are striped, or written out")
    return words


def _sentence(words: list[str]) -> str:
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _worst(diagnosis: Diagnosis) -> tuple[int, ...] | None:
    """The worst element's index in the picture; of a complex number, that of the part with the larger error."""
    manual, reference = diagnosis.manual, diagnosis.reference
    worst = diagnosis.worst
    if worst is None or worst.index is None or manual is None or reference is None or len(worst.index) != manual.ndim:
        return None
    if not np.iscomplexobj(manual) and not np.iscomplexobj(reference):
        return worst.index
    apart = manual[worst.index] - reference[worst.index]
    return (int(abs(apart.imag) > abs(apart.real)), *worst.index)


def _checks(results: Results) -> Table:
    """A line for every leaf, a column for every check and precision."""
    columns = list(dict.fromkeys((row.check, row.dtype) for row in results.rows))
    worst: dict[tuple[str, str, str], Row] = {}
    for row in results.rows:
        cell = row.leaf, row.check, row.dtype
        if cell not in worst or (row.ok, -row.relative_error) < (worst[cell].ok, -worst[cell].relative_error):
            worst[cell] = row
    rows = [
        [leaf or "(the rule)", *(_cell(worst.get((leaf, *column))) for column in columns)]
        for leaf in dict.fromkeys(row.leaf for row in results.rows)
    ]
    measure = "Relative error: largest difference / largest number of the leaf. Point at one to see its limit."
    caption = f"{measure} {results.summary()}."
    return Table("Every check", caption, ["leaf", *(f"{check}\n{dtype}" for check, dtype in columns)], rows)


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("")
    error = short(row.relative_error) if math.isfinite(row.relative_error) else ""
    if row.ok:
        return Cell("ok" if not row.relative_error and not row.limit else error, hint=str(row))
    words = {"fail": "✗", "inconclusive": "?", "oracles disagree": "≠"}
    return Cell(f"{words[row.verdict]} {error}".rstrip(), TONES[row.verdict], str(row))
