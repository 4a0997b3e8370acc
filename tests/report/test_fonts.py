"""Names in any script have glyphs in plots, or it is said that they have none."""

import logging
from functools import partial

import numpy as np
import pytest

from pipeline.report import plots
from pipeline.report.plots import fonts

LABELS = np.array([0, 1, 0, 1])


@pytest.fixture
def machine(monkeypatch):
    """A machine with the plots' font and three others, of which each has some characters."""
    has = {fonts.FONT: "abc", "Zapf": "abc好不مⵣ", "Noto Sans CJK SC": "好不", "Noto Sans Arabic": "م"}
    monkeypatch.setattr(fonts, "_installed", lambda: {name: name for name in has})
    monkeypatch.setattr(fonts, "_characters", lambda file: frozenset(has[file]))
    fonts._warn_once.cache_clear()


@pytest.mark.parametrize(
    ("characters", "others"),
    [("ab", []), ("a好", ["Noto Sans CJK SC"]), ("م不", ["Noto Sans Arabic", "Noto Sans CJK SC"]), ("ⵣ", ["Zapf"])],
)
def test_fonts_are_chosen_by_their_characters(machine, caplog, characters, others):
    assert fonts.families_for(characters) == [fonts.FONT, *others]
    assert not caplog.records


def test_characters_without_a_font_are_named_once(machine, caplog):
    with caplog.at_level(logging.WARNING):
        assert fonts.families_for("aⴰⴱ") == [fonts.FONT]
        fonts.families_for("ⴳ")
    (record,) = caplog.records
    assert "boxes for characters that no font of this machine has, such as 'ⴰⴱ'" in record.getMessage()


def test_a_plot_takes_the_font_that_has_its_labels(monkeypatch):
    """STIX comes with matplotlib and has letters that DejaVu Sans lacks."""
    families = []
    choose = fonts.families_for
    monkeypatch.setattr(fonts, "families_for", lambda characters: families.append(choose(characters)) or families[-1])
    installed = fonts._installed()
    letter = min(fonts._characters(installed["STIXGeneral"]) - fonts._characters(installed[fonts.FONT]))
    picture = plots.png(partial(plots.confusion_matrix, LABELS, LABELS, [letter, "other"]))
    assert len(families[0]) == 2, families
    assert picture != plots.png(partial(plots.confusion_matrix, LABELS, LABELS, ["\ue123", "other"]))
