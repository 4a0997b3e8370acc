"""A small language for a machine in the house: switches, temperatures, timers, times, music, telephone numbers."""

import random

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
ROOMS = ("kitchen", "bedroom", "bathroom", "garden", "office", "hall")
SWITCHED = ("light", "fan", "heating", "radio", "television")
OPENED = ("window", "door", "curtains", "garage")
MUSIC = ("jazz", "piano music", "the news", "something quiet", "my favourite songs")


def number(n: int) -> str:
    """0 to 99 in words."""
    if n < 20:
        return (*DIGITS, *TEENS)[n]
    tens, ones = divmod(n, 10)
    return TENS[tens - 2] + (f" {DIGITS[ones]}" if ones else "")


def sentences(count: int, seed: int) -> list[str]:
    """So many different ones, the same for the same seed."""
    drawn = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[_sentence(drawn)] = None
    return list(found)


def _sentence(drawn: random.Random) -> str:
    kind = drawn.choices(range(6), (3, 2, 2, 2, 1, 3))[0]
    room = drawn.choice(ROOMS)
    if kind == 0:
        return f"turn the {room} {drawn.choice(SWITCHED)} {drawn.choice(('on', 'off'))}"
    if kind == 1:
        return f"{drawn.choice(('open', 'close'))} the {room} {drawn.choice(OPENED)} at {_time(drawn)}"
    if kind == 2:
        return f"set the {room} to {number(drawn.randint(5, 35))} degrees"
    if kind == 3:
        what = drawn.choice(("remind me", "stop", "wake me"))
        return f"{what} in {number(drawn.randint(2, 99))} {drawn.choice(('seconds', 'minutes', 'hours'))}"
    if kind == 4:
        return f"play {drawn.choice(MUSIC)} in the {room} at {_time(drawn)}"
    return "call " + " ".join(drawn.choice(DIGITS) for _ in range(drawn.randint(3, 7)))


def _time(drawn: random.Random) -> str:
    hour = number(drawn.randint(1, 12))
    minutes = number(5 * drawn.randint(1, 5))
    kinds = (f"{hour} o'clock", f"half past {hour}", f"quarter to {hour}", f"{minutes} past {hour}")
    return drawn.choice(kinds)
