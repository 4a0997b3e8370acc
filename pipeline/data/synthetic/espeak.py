"""Speech without recordings: espeak-ng, a synthesiser that the package ``espeakng-loader`` carries with its voices.

Its library keeps a state from one sentence to the next, so that what it says depends on what it has said before. It
runs in a process of its own, which is given a whole list: the same list gives the same samples. Run as a program, this
file is that process, and it imports nothing of ours.
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...extras import extra

with extra("speech"):
    import espeakng_loader

AUDIO_OUTPUT_SYNCHRONOUS, POSITION_CHARACTER, CHARACTERS_UTF8 = 2, 1, 1
SPEED, PITCH = 1, 3
"""Numbers of speak_lib.h."""


class Spoken(NamedTuple):
    """A sentence and how it is said.

    voice: a language and a variant, as "en-us+f3". speed: words a minute, 80 to 450. pitch: 0 to 99.
    """

    text: str
    voice: str
    speed: int = 175
    pitch: int = 50


def synthesise(sentences: Sequence[Spoken]) -> tuple[list[np.ndarray], int]:
    """Every sentence as a signal, float32 between -1 and 1, and how many samples a second they have.

    Raises RuntimeError where the library fails.
    """
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__))],
        input=json.dumps(sentences).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"espeak-ng failed: {done.stderr.decode(errors='replace').strip()}")
    header, _, content = done.stdout.partition(b"\n")
    rate, *lengths = json.loads(header)
    samples = np.frombuffer(content, np.int16).astype(np.float32) / 2**15
    return np.split(samples, np.cumsum(lengths)[:-1]), rate


def _spoken(sentences: Sequence[Spoken]) -> Iterator[np.ndarray | int]:
    """How many samples a second there are, then the samples of every sentence (int16)."""
    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    chunks: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def receive(samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: object) -> int:
        if samples and count:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise RuntimeError(f"espeak_Initialize says {rate}")
    library.espeak_SetSynthCallback(receive)
    yield rate
    for text, voice, speed, pitch in sentences:
        chunks.clear()
        # Its own seed is the time of the day.
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        failed = library.espeak_SetVoiceByName(voice.encode())
        failed = failed or library.espeak_SetParameter(SPEED, speed, 0) or library.espeak_SetParameter(PITCH, pitch, 0)
        content = text.encode() + b"\0"
        failed = failed or library.espeak_Synth(
            content, ctypes.c_size_t(len(content)), 0, POSITION_CHARACTER, 0, CHARACTERS_UTF8, None, None
        )
        if failed or not chunks:
            raise RuntimeError(f"{text!r} by the voice {voice!r}: error {failed}")
        yield np.concatenate(chunks)


def _main() -> None:
    rate, *signals = _spoken(json.load(sys.stdin))
    sys.stdout.buffer.write(json.dumps([rate, *map(len, signals)]).encode() + b"\n")  # pyright: ignore
    for signal in signals:
        sys.stdout.buffer.write(signal.tobytes())  # pyright: ignore


if __name__ == "__main__":
    _main()
