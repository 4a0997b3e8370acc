"""What the report of a recogniser shows: what it hears and when, which words it takes for which, and how it learnt."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..data.speech import Recordings, Speech
from ..decoding.recogniser import Recogniser
from ..extras import extra
from . import plots
from .page import Plot, Table
from .plots import WIDTH, Figure, Theme, figure_of, short_name, whole_numbers

NOTHING = "(nothing)"
"""In the place of a word that is missing, or too many."""
CONFUSED = 16  # words in a matrix
WORST = 15  # utterances in a table
SURE = 0.1  # the least probability with which a character is drawn


def story(model: str, data: Speech, held_out_speaker: str) -> tuple[str, str, str]:
    """What was learned, validation and test. model: its kind; held_out_speaker: whose recordings are tested, or ""."""
    speakers = f" by {len(set(data.train.speakers))} speakers" if any(data.train.speakers) else ""
    of_speaker = f" of {held_out_speaker}, whom training has not heard" if held_out_speaker else ""
    return (
        f"A {model} network learned to transcribe speech from {len(data.train):,} recordings{speakers}, by "
        "connectionist temporal classification, which needs no times of characters",
        f"{len(data.validation):,} validation utterances",
        f"{len(data.test):,} test utterances{of_speaker}",
    )


@dataclass(frozen=True, eq=False)
class Heard:
    """An utterance and what a model hears in it.

    features: (frames, mels), normalised, of which one is taken every ``hop`` seconds.
    log_y: (steps, symbols), the logarithms of the probabilities of symbols, the first of which is the blank; a step is
        ``step`` seconds.
    symbols: what they are. labels: those of the recognised text, with the steps at which each begins and ends.
    """

    title: str
    features: np.ndarray
    hop: float
    log_y: np.ndarray
    step: float
    symbols: Sequence[str]
    labels: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, recogniser: Recogniser, recording: Recordings, text: str, log_y: np.ndarray) -> "Heard":
        """A single recording as a recogniser hears it. text: what it recognises, with the best alignment of it."""
        (frames, (count,)), _ = recogniser.utterances(recording).take(np.arange(1))
        reference, features = recording.texts[0], frames[0, :count]
        labels, alignment = recogniser.alignment(log_y)
        starts, ends = (alignment.starts, alignment.ends) if alignment else ((), ())
        title = reference if text == reference else f"{reference} (recognised: {text or NOTHING})"
        hop, step, symbols = recogniser.input.hop, recogniser.step, recogniser.alphabet.symbols
        return cls(title, features, hop, log_y, step, symbols, labels, starts, ends)


def listening(heard: Heard, theme: Theme) -> Figure:
    """The spectrogram with the characters where they are heard, and below it every symbol's probability over time."""
    with extra("report"):
        import matplotlib as mpl

    figure = figure_of(WIDTH, 4.6, gap=0.03)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    seconds = len(heard.features) * heard.hop
    above.imshow(
        heard.features.T,
        origin="lower",
        aspect="auto",
        cmap="viridis",
        extent=(0, seconds, 0, heard.features.shape[1]),
        vmin=-2.5,
        vmax=2.5,
    )
    above.grid(False)
    above.set(ylabel="feature")
    for label, start, end in zip(heard.labels, heard.starts, heard.ends):
        middle = (start + end) / 2 * heard.step
        above.axvline(middle, color="white", linewidth=0.6, alpha=0.5)
        above.annotate(
            _shown(heard.symbols[label]), (middle, 1.02), xycoords=("data", "axes fraction"), ha="center", fontsize=10
        )
    p = np.exp(heard.log_y)
    time = (np.arange(len(p)) + 0.5) * heard.step
    below.plot(time, p[:, 0], color=theme.grid, linewidth=1.5, label="blank")
    colours = mpl.colormaps["tab20"]
    sure = [symbol for symbol in range(1, p.shape[1]) if p[:, symbol].max(initial=0) > SURE]
    for symbol in sure:
        colour = colours(symbol % 20)
        below.plot(time, p[:, symbol], color=colour, linewidth=1.5)
        peak = int(p[:, symbol].argmax())
        below.annotate(_shown(heard.symbols[symbol]), (time[peak], p[peak, symbol]), color=colour, ha="center")
    below.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.15), xlim=(0, seconds))
    below.legend(loc="upper right", fontsize=8)
    return figure


def _shown(symbol: str) -> str:
    return "\N{OPEN BOX}" if symbol == " " else short_name(symbol)


def examples(heard: Sequence[Heard]) -> list[Plot]:
    return [
        Plot(
            f"heard_{i}",
            f"What it hears: {its.title}",
            "Above, the spectrogram as the model is given it, with every character of the answer where its best "
            "alignment has it; below, the probabilities of the characters (grey: of the blank, which is none).",
            partial(listening, its),
        )
        for i, its in enumerate(heard, 1)
    ]


def error_rates(metrics: Sequence[Mapping[str, Any]], theme: Theme) -> Figure:
    """Loss step by step, and the validation utterances' error rates after every epoch."""
    figure = figure_of(WIDTH, 3.4)
    axis = figure.subplots()
    evaluations = plots.evaluations_in(metrics)
    epochs = [line["epoch"] for line in evaluations]
    for name, words, colour in (("wer", "words", theme.validation), ("cer", "characters", theme.training)):
        axis.plot(epochs, [line[name] for line in evaluations], color=colour, marker="o", markersize=4, label=words)
    axis.set(xlabel="epoch", ylabel="error rate")
    axis.set_ylim(0, min(1.05, axis.get_ylim()[1]))
    whole_numbers(axis)
    axis.legend(loc="upper right")
    return figure


def learning(metrics: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """How training went. metrics: the lines of ``metrics.jsonl``."""
    return [
        Plot(
            "loss",
            "Loss",
            "Nats an utterance: training as each step saw it (with noise, changed speed, hidden stripes and dropout), "
            "and validation after every epoch.",
            partial(plots.curves, metrics, None),
        ),
        Plot(
            "error_rates",
            "Error rates",
            "Of the validation utterances after every epoch: words, or characters, that are wrong, missing or too "
            "many, as a share of those that were said.",
            partial(error_rates, metrics),
        ),
    ]


def pairs(texts: Sequence[str], recognised: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every word that was said and the one that it was taken for, NOTHING where there is none on a side."""
    with extra("speech"):
        import jiwer

    found = jiwer.process_words(list(texts), list(recognised))
    for said, heard, chunks in zip(found.references, found.hypotheses, found.alignments):
        for chunk in chunks:
            its_said = said[chunk.ref_start_idx : chunk.ref_end_idx]
            its_heard = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
            yield from zip(
                its_said or [NOTHING] * len(its_heard),
                its_heard or [NOTHING] * len(its_said),
            )


def confusions(texts: Sequence[str], recognised: Sequence[str]) -> Plot:
    """Which words are taken for which: a matrix of those with most mistakes, or of the most frequent without any."""
    found = Counter(pairs(texts, recognised))
    wrong, frequent = Counter(), Counter()
    for (said, heard), count in found.items():
        frequent.update({said: count, heard: count})
        if said != heard:
            wrong.update({said: count, heard: count})
    few = len(frequent) <= CONFUSED
    words = sorted(frequent, key=lambda word: (-wrong[word], -frequent[word]))[:CONFUSED]
    words = sorted(words, key=lambda word: (word == NOTHING, word))
    shown = [(pair, count) for pair, count in found.items() if set(pair) <= set(words)]
    labels, predictions = (
        np.concatenate([np.repeat(words.index(pair[side]), count) for pair, count in shown]) for side in (0, 1)
    )
    mistakes = sum(count for (said, heard), count in found.items() if said != heard)
    of = "all words" if few else f"the {len(words)} words with most mistakes" if mistakes else "the most frequent words"
    return Plot(
        "confusion",
        "Confusion of words",
        f"What was said (rows) and what it was taken for (columns), {of}; {NOTHING} stands for no word. There are "
        f"{mistakes} mistakes in {len(texts)} test utterances.",
        partial(plots.confusion_matrix, labels, predictions, words),
    )


def worst(texts: Sequence[str], recognised: Sequence[str], names: Sequence[str]) -> Table:
    """The utterances with most mistakes."""
    with extra("speech"):
        import jiwer

    rates = np.asarray([jiwer.wer(text, its) for text, its in zip(texts, recognised)])
    order = [row for row in np.argsort(-rates, kind="stable").tolist() if rates[row] > 0][:WORST]
    return Table(
        "Worst utterances",
        "Those of the test with the highest word error rates; all are in transcripts.tsv."
        if order
        else "No mistakes: every word of every test utterance was recognised.",
        ("recording", "said", "recognised", "WER"),
        [(str(names[row]), str(texts[row]), str(recognised[row]) or NOTHING, f"{rates[row]:.0%}") for row in order],
        sentences=True,
    )
