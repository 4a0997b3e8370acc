"""Synthetic speech by espeak-ng, which the package ``espeakng-loader`` contains together with its voices.

The library keeps a state, so that the samples of a sentence depend on the sentences before it. A list of sentences is
therefore synthesised in a new process: the same list gives the same samples. That process runs this file as a script,
so nothing may be imported relatively at its top.
"""

import ctypes
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

AUDIO_OUTPUT_SYNCHRONOUS, POSITION_CHARACTER, CHARACTERS_UTF8 = 2, 1, 1
SPEED, PITCH = 1, 3
"""Numbers of speak_lib.h."""


class Spoken(NamedTuple):
    """A sentence and how it is spoken.

    voice: a language and a variant, such as "en-us+f3"; speed: words per minute, 80 to 450; pitch: 0 to 99.
    """

    text: str
    voice: str
    speed: int = 175
    pitch: int = 50


def synthesise(sentences: Sequence[Spoken]) -> tuple[list[np.ndarray], int]:
    """The signal of every sentence, float32 between -1 and 1, and their number of samples per second.

    Raises RuntimeError if the library fails.
    """
    from ...extras import extra

    with extra("speech"):
        importlib.import_module("espeakng_loader")  # which the process below needs

    process = subprocess.run(
        [sys.executable, "-P", str(Path(__file__))],
        input=json.dumps(sentences).encode(),
        capture_output=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"espeak-ng failed: {process.stderr.decode(errors='replace').strip()}")
    header, _, content = process.stdout.partition(b"\n")
    rate, *lengths = json.loads(header)
    samples = np.frombuffer(content, np.int16).astype(np.float32) / 2**15
    return np.split(samples, np.cumsum(lengths)[:-1]), rate


def _synthesised(sentences: Sequence[Spoken]) -> Iterator[np.ndarray | int]:
    """Yields the number of samples per second, and then the samples of every sentence (int16)."""
    import espeakng_loader

    library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
    chunks: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def receive(samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: object) -> int:
        if samples and count:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise RuntimeError(f"espeak_Initialize returned {rate}")
    library.espeak_SetSynthCallback(receive)
    yield rate
    for text, voice, speed, pitch in sentences:
        chunks.clear()
        # Without this its seed is the time of day.
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
    rate, *signals = _synthesised(json.load(sys.stdin))
    sys.stdout.buffer.write(json.dumps([rate, *map(len, signals)]).encode() + b"\n")  # pyright: ignore
    for signal in signals:
        sys.stdout.buffer.write(signal.tobytes())  # pyright: ignore


if __name__ == "__main__":
    _main()
