"""Synthetic sentences in two languages: dates, numbers and amounts, formatted by ``babel`` from Unicode CLDR's data.

Languages differ in word order, decimal marks and the names of months, units and currencies, and a translation must copy
the digits one by one.
"""

import datetime
import random
from collections.abc import Callable

from ...errors import UserError
from ...extras import extra

with extra("text"):
    from babel import Locale, UnknownLocaleError, dates, lists, numbers, units
    from babel.core import get_global

CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "SEK", "CNY", "INR", "BRL", "CAD", "PLN", "CZK")
MEASURES = (
    "length-kilometer",
    "length-meter",
    "length-centimeter",
    "mass-kilogram",
    "mass-gram",
    "volume-liter",
    "duration-hour",
    "duration-minute",
    "duration-year",
    "temperature-celsius",
    "area-hectare",
    "energy-kilowatt-hour",
)

Phrase = Callable[[str], str]
"""A function of a locale ("en") to the phrase in its language."""


def sentences(count: int, source: str, target: str, seed: int) -> list[tuple[str, str]]:
    """``count`` different sentences of one to three phrases, in the languages ``source`` and ``target`` ("en", "de").

    Raises UserError for a language that CLDR does not have.
    """
    for language in (source, target):
        try:
            Locale.parse(language)
        except (UnknownLocaleError, ValueError) as error:
            known = ", ".join(sorted({alias for alias in get_global("likely_subtags") if len(alias) == 2})[:20])
            raise UserError(
                f"there is no CLDR language {language!r}; give a code such as {known}, ... (ISO 639)"
            ) from error
    rng = random.Random(seed)
    translations: dict[str, str] = {}
    while len(translations) < count:
        phrases = [rng.choice(KINDS)(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
        style = rng.choice(("standard", "standard", "or"))
        first, second = (_plain(_joined(phrases, style, language)) for language in (source, target))
        translations.setdefault(first, second)
    return list(translations.items())


def _joined(phrases: list[Phrase], style: str, language: str) -> str:
    return lists.format_list([phrase(language) for phrase in phrases], style=style, locale=language)  # pyright: ignore[reportArgumentType]


def _plain(text: str) -> str:
    """``text`` with ordinary spaces in place of narrow and non-breaking ones."""
    return " ".join(text.replace("\u202f", " ").replace("\xa0", " ").split())


def _moment(rng: random.Random) -> datetime.datetime:
    day = datetime.date.fromordinal(rng.randint(693_596, 766_644))  # the years 1900 to 2099
    return datetime.datetime.combine(day, datetime.time(rng.randrange(24), rng.randrange(60)))


def _amount(rng: random.Random) -> int | float:
    """A random number with one to seven digits, in half of all cases with one or two decimals."""
    size = 10 ** rng.randint(1, 7)
    return rng.randint(1, size) if rng.random() < 0.5 else round(rng.uniform(0, size), rng.randint(1, 2))


def _date(rng: random.Random) -> Phrase:
    when, form = _moment(rng), rng.choice(("full", "long", "long", "medium"))
    return lambda language: dates.format_date(when, form, locale=language)


def _date_and_time(rng: random.Random) -> Phrase:
    when, form = _moment(rng), rng.choice(("full", "long"))
    return lambda language: (
        f"{dates.format_date(when, form, locale=language)}, {dates.format_time(when, 'short', locale=language)}"
    )


def _month(rng: random.Random) -> Phrase:
    when, form = _moment(rng), rng.choice(("yMMMM", "MMMMd", "yQQQQ"))
    return lambda language: dates.format_skeleton(form, when, locale=language)


def _weekday(rng: random.Random) -> Phrase:
    when = _moment(rng)
    return lambda language: dates.format_date(when, "EEEE", locale=language)


def _how_long_ago(rng: random.Random) -> Phrase:
    unit = rng.choice(("minutes", "hours", "days", "weeks"))
    span = datetime.timedelta(**{unit: rng.choice((-1, 1)) * rng.randint(1, 30)})
    return lambda language: dates.format_timedelta(span, add_direction=True, locale=language)


def _number(rng: random.Random) -> Phrase:
    value = _amount(rng)
    return lambda language: numbers.format_decimal(value, locale=language)


def _share(rng: random.Random) -> Phrase:
    value = rng.randint(0, 2000) / 1000
    return lambda language: numbers.format_percent(value, decimal_quantization=False, locale=language)


def _money(rng: random.Random) -> Phrase:
    value, currency = _amount(rng), rng.choice(CURRENCIES)
    form = rng.choice(("name", "name", "standard"))
    return lambda language: numbers.format_currency(value, currency, locale=language, format_type=form)


def _measure(rng: random.Random) -> Phrase:
    value, unit = _amount(rng), rng.choice(MEASURES)
    return lambda language: units.format_unit(value, unit, "long", locale=language)


def _speed(rng: random.Random) -> Phrase:
    value, unit = rng.randint(1, 999), rng.choice(("length-kilometer", "length-meter"))
    per = rng.choice(("duration-hour", "duration-second"))
    return lambda language: units.format_compound_unit(value, unit, denominator_unit=per, locale=language) or ""


KINDS = (_date, _date_and_time, _month, _weekday, _how_long_ago, _number, _share, _money, _money, _measure, _speed)
