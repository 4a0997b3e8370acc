"""Synthetic voice commands for a home: switches, temperatures, timers, times, music and telephone numbers."""

import random

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ROOMS = ("kitchen", "bedroom", "bathroom", "garden", "office", "hall")
SWITCHED = ("light", "fan", "heating", "radio", "television")
OPENED = ("window", "door", "curtains", "garage")
MUSIC = ("jazz", "piano music", "the news", "something quiet", "my favourite songs")


def number(n: int) -> str:
    """A number from 0 to 99 in words.

    >>> number(42)
    'forty two'
    """
    if n < 20:
        return (*DIGITS, *TEENS)[n]
    tens, ones = divmod(n, 10)
    return TENS[tens - 2] + (f" {DIGITS[ones]}" if ones else "")


def sentences(count: int, seed: int) -> list[str]:
    """``count`` different sentences, a function of ``seed``."""
    rng = random.Random(seed)
    different: dict[str, None] = {}
    while len(different) < count:
        different[_sentence(rng)] = None
    return list(different)


def _sentence(rng: random.Random) -> str:
    kind = rng.choices(range(6), (3, 2, 2, 2, 1, 3))[0]
    room = rng.choice(ROOMS)
    if kind == 0:
        return f"turn the {room} {rng.choice(SWITCHED)} {rng.choice(('on', 'off'))}"
    if kind == 1:
        return f"{rng.choice(('open', 'close'))} the {room} {rng.choice(OPENED)} at {_time(rng)}"
    if kind == 2:
        return f"set the {room} to {number(rng.randint(5, 35))} degrees"
    if kind == 3:
        what = rng.choice(("remind me", "stop", "wake me"))
        return f"{what} in {number(rng.randint(2, 99))} {rng.choice(('seconds', 'minutes', 'hours'))}"
    if kind == 4:
        return f"play {rng.choice(MUSIC)} in the {room} at {_time(rng)}"
    return "call " + " ".join(rng.choice(DIGITS) for _ in range(rng.randint(3, 7)))


def _time(rng: random.Random) -> str:
    hour = number(rng.randint(1, 12))
    minutes = number(5 * rng.randint(1, 5))
    kinds = (f"{hour} o'clock", f"half past {hour}", f"quarter to {hour}", f"{minutes} past {hour}")
    return rng.choice(kinds)
