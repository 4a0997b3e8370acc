"""A report as a page: the verdict, each diagnosis with pictures of where its error lies, and every check."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np

from pipeline.report.page import Cell, Page, Plot, Section, Table, render
from pipeline.verify.drawings import Sheet, heat_map, planes, profile, short
from pipeline.verify.measure import distances, largest
from pipeline.verify.report import Diagnosis, Report, Row, Verdict

PICTURED = 16
"""The most diagnoses that have pictures: each takes about half a second to draw."""

LONG = 64
"""Characters of a title: a longer subject, a whole model as it would be written, stands at the end."""

TONES: dict[Verdict, Literal["good", "bad", "doubtful"]] = {
    "pass": "good",
    "fail": "bad",
    "inconclusive": "doubtful",
    "oracles disagree": "doubtful",
}
MEANS: dict[Verdict, str] = {
    "pass": "The derivative by hand is that of autodiff, leaf by leaf, to rounding.",
    "fail": "The derivative by hand is not that of autodiff. What is wrong comes first, every check after it.",
    "inconclusive": "Nothing was found to be wrong, but not everything could be judged: see below what, and why.",
    "oracles disagree": (
        "Autodiff and finite differences contradict each other, so that neither can judge the derivative by hand: the "
        "function itself, or a rule inside it, is at fault."
    ),
}


def page(report: Report) -> str:
    """The report as one HTML page that needs no network and no file beside it."""
    title = report.subject if len(report.subject) <= LONG else f"{report.subject[: LONG - 1].rstrip()}…"
    return render(
        Page(
            title=title,
            badge=Cell(report.verdict.upper(), TONES[report.verdict]),
            headline=list(_headline(report)),
            summary=MEANS[report.verdict],
            sections=list(_sections(report, title)),
        )
    )


def _headline(report: Report) -> Iterator[tuple[str, str]]:
    yield f"{len(report.rows) - len(report.failures)} of {len(report.rows)}", "checks hold"
    leaves = {row.leaf for row in report.failures if row.leaf}
    if leaves:
        yield str(len(leaves)), "leaf does not hold" if len(leaves) == 1 else "leaves do not hold"
    worst = report.worst()
    if worst is not None:
        size = short(worst.relative_error) if math.isfinite(worst.relative_error) else "not finite"
        yield size, "largest relative error in float64"
    if report.seconds:
        yield f"{report.seconds:.1f} s", "checking"


def _sections(report: Report, title: str) -> Iterator[Plot | Table | Section]:
    if report.places:
        inherit = "All other layers are right, or only inherit the error of these."
        yield Section("Whose own rule is wrong", caption=inherit, items=[str(place) for place in report.places])
    for i, diagnosis in enumerate(report.diagnoses):
        yield _diagnosis(diagnosis, f"diagnosis_{i}", pictured=i < PICTURED)
    explained = {diagnosis.leaf for diagnosis in report.diagnoses}
    others = [row for row in report.failures if not report.places and row.leaf not in explained]
    if others:
        yield Section(
            "What else does not hold" if explained else "What does not hold", items=[str(row) for row in others]
        )
    if report.notes:
        yield Section("Notes", caption="Nothing of this is wrong.", items=report.notes)
    if report.rows:
        yield _checks(report)
    if title != report.subject:
        yield Section("What was checked", code=report.subject)


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
        yield "there by hand", f"{value:.10g}"
        yield "there by autodiff", f"{reference:.10g}"
        if reference and np.isfinite(value) and np.isfinite(reference):
            yield "ratio", f"{value / reference + 0.0:.6g}"  # 0, not -0
    if diagnosis.probe:
        yield "arguments", diagnosis.probe
    if diagnosis.manual is not None and diagnosis.reference is not None:
        yield "this explains", "every element" if diagnosis.exact else "not every element"


def _pictures(diagnosis: Diagnosis, name: str) -> tuple[list[Plot], str]:
    """The maps of both cotangents and of their difference, the error's profiles, and how to read them."""
    arrays = {"by hand": diagnosis.manual, "by autodiff": diagnosis.reference}
    given = {title: np.asarray(array) for title, array in arrays.items() if array is not None}
    shapes = {title: array.shape for title, array in given.items()}
    empty = [f"{title} the array is empty, {list(shape)}" for title, shape in shapes.items() if 0 in shape]
    given = {title: array for title, array in given.items() if array.size}
    if not given:
        return [], _sentence(empty)
    if any(map(np.iscomplexobj, given.values())):
        given = {title: array.astype(np.complex128) for title, array in given.items()}
    maps = {title: planes(array) for title, array in given.items()}
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
        words.append("the two are coloured each on its own scale")
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
    """How to read what is not said by the labels."""
    words = [described for described in dict.fromkeys(sheet.described() for sheet in sheets.values()) if described]
    words.append("red is above zero, blue below")
    if framed:
        words.append("the frame marks the worst element")
    if any(sheet.is_reduced for sheet in sheets.values()):
        words.append("each cell is the largest number of a block of neighbours")
    if any(not np.isfinite(sheet.blocks).all() for sheet in sheets.values()):
        words.append("what is not finite is striped, or written out")
    return words


def _sentence(words: list[str]) -> str:
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _worst(diagnosis: Diagnosis) -> tuple[int, ...] | None:
    """The worst element's index in the laid out array; of a complex number that of the part that is further off."""
    manual, reference = diagnosis.manual, diagnosis.reference
    worst = diagnosis.worst
    if worst is None or worst.index is None or manual is None or reference is None or len(worst.index) != manual.ndim:
        return None
    if not np.iscomplexobj(manual) and not np.iscomplexobj(reference):
        return worst.index
    apart = manual[worst.index] - reference[worst.index]
    return (int(abs(apart.imag) > abs(apart.real)), *worst.index)


def _checks(report: Report) -> Table:
    """A line for every leaf, a column for every check and precision."""
    columns = list(dict.fromkeys((row.check, row.dtype) for row in report.rows))
    shown: dict[tuple[str, str, str], Row] = {}
    for row in report.rows:  # of several probes' rows the worst
        place = row.leaf, row.check, row.dtype
        if place not in shown or (row.ok, -row.relative_error) < (shown[place].ok, -shown[place].relative_error):
            shown[place] = row
    rows = [
        [leaf or "(the rule)", *(_cell(shown.get((leaf, *column))) for column in columns)]
        for leaf in dict.fromkeys(row.leaf for row in report.rows)
    ]
    measure = "Relative errors, largest difference / largest number of the leaf; rest on one for its limit."
    caption = f"{measure} {report.summary()}."
    return Table("Every check", caption, ["leaf", *(f"{check}\n{dtype}" for check, dtype in columns)], rows)


def _cell(row: Row | None) -> Cell:
    if row is None:
        return Cell("")
    error = short(row.relative_error) if math.isfinite(row.relative_error) else ""
    if row.ok:
        return Cell("ok" if not row.relative_error and not row.limit else error, hint=str(row))
    words = {"fail": "✗", "inconclusive": "?", "oracles disagree": "≠"}
    return Cell(f"{words[row.verdict]} {error}".rstrip(), TONES[row.verdict], str(row))
