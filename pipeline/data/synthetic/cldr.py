"""Dates, numbers and amounts as people write them in two languages, by the Unicode CLDR data in ``babel``.

A translation task that is on every machine: word order, decimal marks, names of months, units and currencies differ,
and digits must be copied one by one.
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
"""What is said, in the language of a locale."""


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
    drawn = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        phrases = [drawn.choice(KINDS)(drawn) for _ in range(drawn.choice((1, 1, 2, 2, 3)))]
        style = drawn.choice(("standard", "standard", "or"))
        first, second = (_plain(_joined(phrases, style, language)) for language in (source, target))
        found.setdefault(first, second)
    return list(found.items())


def _joined(phrases: list[Phrase], style: str, language: str) -> str:
    return lists.format_list([phrase(language) for phrase in phrases], style=style, locale=language)  # pyright: ignore[reportArgumentType]


def _plain(text: str) -> str:
    """With ordinary spaces in place of narrow and unbreakable ones, which look alike."""
    return " ".join(text.replace("\u202f", " ").replace("\xa0", " ").split())


def _moment(drawn: random.Random) -> datetime.datetime:
    day = datetime.date.fromordinal(drawn.randint(693_596, 766_644))  # the years 1900 to 2099
    return datetime.datetime.combine(day, datetime.time(drawn.randrange(24), drawn.randrange(60)))


def _amount(drawn: random.Random) -> int | float:
    """Of one to seven digits, every second one with decimals."""
    size = 10 ** drawn.randint(1, 7)
    return drawn.randint(1, size) if drawn.random() < 0.5 else round(drawn.uniform(0, size), drawn.randint(1, 2))


def _date(drawn: random.Random) -> Phrase:
    when, form = _moment(drawn), drawn.choice(("full", "long", "long", "medium"))
    return lambda language: dates.format_date(when, form, locale=language)


def _date_and_time(drawn: random.Random) -> Phrase:
    when, form = _moment(drawn), drawn.choice(("full", "long"))
    return lambda language: (
        f"{dates.format_date(when, form, locale=language)}, {dates.format_time(when, 'short', locale=language)}"
    )


def _month(drawn: random.Random) -> Phrase:
    when, form = _moment(drawn), drawn.choice(("yMMMM", "MMMMd", "yQQQQ"))
    return lambda language: dates.format_skeleton(form, when, locale=language)


def _weekday(drawn: random.Random) -> Phrase:
    when = _moment(drawn)
    return lambda language: dates.format_date(when, "EEEE", locale=language)


def _how_long_ago(drawn: random.Random) -> Phrase:
    unit = drawn.choice(("minutes", "hours", "days", "weeks"))
    span = datetime.timedelta(**{unit: drawn.choice((-1, 1)) * drawn.randint(1, 30)})
    return lambda language: dates.format_timedelta(span, add_direction=True, locale=language)


def _number(drawn: random.Random) -> Phrase:
    value = _amount(drawn)
    return lambda language: numbers.format_decimal(value, locale=language)


def _share(drawn: random.Random) -> Phrase:
    value = drawn.randint(0, 2000) / 1000
    return lambda language: numbers.format_percent(value, decimal_quantization=False, locale=language)


def _money(drawn: random.Random) -> Phrase:
    value, currency = _amount(drawn), drawn.choice(CURRENCIES)
    form = drawn.choice(("name", "name", "standard"))
    return lambda language: numbers.format_currency(value, currency, locale=language, format_type=form)


def _measure(drawn: random.Random) -> Phrase:
    value, unit = _amount(drawn), drawn.choice(MEASURES)
    return lambda language: units.format_unit(value, unit, "long", locale=language)


def _speed(drawn: random.Random) -> Phrase:
    value, unit = drawn.randint(1, 999), drawn.choice(("length-kilometer", "length-meter"))
    per = drawn.choice(("duration-hour", "duration-second"))
    return lambda language: units.format_compound_unit(value, unit, denominator_unit=per, locale=language) or ""


KINDS = (_date, _date_and_time, _month, _weekday, _how_long_ago, _number, _share, _money, _money, _measure, _speed)
