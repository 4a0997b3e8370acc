"""Fonts for the names and texts in plots, which are the user's and may be in any script."""

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...display import quoted
from ...extras import extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

_log = logging.getLogger(__name__)

FONT = "DejaVu Sans"
PREFERRED = ("Noto Sans", "Noto", "Source Han Sans", "PingFang", "Hiragino", "Microsoft YaHei", "Arial Unicode")
"""The beginnings of the names of fonts for many scripts, the best first. Others follow in alphabetical order."""


def characters_in(figure: Figure) -> set[str]:
    """The visible characters in a figure's texts and in the labels of its ticks."""
    with extra("report"):
        from matplotlib.text import Text

    texts = [text.get_text() for text in figure.findobj(Text)]  # pyright: ignore[reportAttributeAccessIssue]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            texts += getattr(axis.get_major_formatter(), "seq", ())  # labels that ticks get when they are drawn
    return {character for text in texts for character in str(text) if character.isprintable()}


def families_for(characters: Iterable[str]) -> list[str]:
    """The plots' font, then as few others of this machine as have the ``characters`` that it lacks.

    What no font has is drawn as boxes, and a warning says so once.
    """
    installed = _installed()
    missing = set(characters) - _characters(installed[FONT]) if FONT in installed else set()
    families = [FONT]
    for family in sorted(installed, key=_rank) if missing else ():
        if found := missing & _characters(installed[family]):
            families.append(family)
            missing -= found
        if not missing:
            break
    if missing:
        _warn_once("".join(sorted(missing)[:8]))
    return families


@cache
def _warn_once(examples: str) -> None:
    if _warn_once.cache_info().misses == 1:
        _log.warning(
            "plots have boxes for characters that no font of this machine has, such as %s; install a font for their "
            "script, such as Noto Sans",
            quoted(examples),
        )


def _rank(family: str) -> tuple[int, str]:
    return next((i for i, start in enumerate(PREFERRED) if family.startswith(start)), len(PREFERRED)), family


@cache
def _installed() -> dict[str, str]:
    """The file of each font family on this machine, in its regular style."""
    with extra("report"):
        from matplotlib.font_manager import fontManager

    # "Last Resort" has a box for every character.
    fonts: Sequence[Any] = fontManager.ttflist
    regular = [font for font in fonts if font.style == "normal" and not font.name.startswith("Last Resort")]
    return {font.name: font.fname for font in sorted(regular, key=lambda font: font.weight != 400, reverse=True)}


@cache
def _characters(file: str) -> frozenset[str]:
    """The characters that a font file has glyphs for; none if it can't be read, or has pictures instead of outlines."""
    with extra("report"):
        from matplotlib.ft2font import FT2Font

    if not Path(file).is_file():
        return frozenset()
    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
