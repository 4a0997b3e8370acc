"""Recordings: what comes out of files, features against scipy's, and what the random changes keep."""

import os
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile

from fuzzing.attempt import limited_memory
from pipeline.data import audio
from pipeline.data.audio import SpecAugment, Spectrum, log_mel, mfcc, normalise, read_audio, scale_of
from pipeline.errors import UserError

KEY = jax.random.key(0)
RATE = 16_000
SINE = np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE).astype(np.float32) / 2


@pytest.mark.parametrize("kind, step", [("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 1e-9), ("DOUBLE", 1e-7)])
def test_samples_of_any_kind(tmp_path, kind, step):
    soundfile.write(tmp_path / "a.wav", SINE, RATE, kind)
    signal = read_audio(tmp_path / "a.wav", RATE)
    assert signal.dtype == np.float32
    np.testing.assert_allclose(signal, SINE, atol=step)


def test_flac_of_24_bits(tmp_path):
    soundfile.write(tmp_path / "a.flac", SINE, RATE, "PCM_24")
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac", RATE), SINE, atol=2**-23)


def test_stereo_becomes_the_mean_of_both(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([SINE, 0.5 * SINE], 1), RATE, "FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE), 0.75 * SINE, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_other_rates(tmp_path, rate):
    time = np.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", np.sin(2 * np.pi * 440 * time) / 2, rate, "FLOAT")
    signal = read_audio(tmp_path / "a.wav", RATE)
    assert len(signal) == RATE
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE) / 2
    np.testing.assert_allclose(signal[1000:-1000], expected[1000:-1000], atol=1e-3)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def test_what_is_wrong_with_a_file(tmp_path):
    with pytest.raises(UserError, match=r"b.wav is not a file"):
        read_audio(tmp_path / "b.wav", RATE)
    file = tmp_path / "a.wav"
    for content in (b"", b"RIFF", b"no recording at all"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"a.wav cannot be read as a recording"):
            read_audio(file, RATE)
    soundfile.write(file, SINE[:0], RATE, "PCM_16")
    with pytest.raises(UserError, match=r"a.wav is a recording without samples"):
        read_audio(file, RATE)
    soundfile.write(file, np.array([0.0, np.nan]), RATE, "FLOAT")
    with pytest.raises(UserError, match=r"not finite"):
        read_audio(file, RATE)


def test_a_file_that_is_cut_off(tmp_path):
    soundfile.write(tmp_path / "a.wav", SINE, RATE, "PCM_16")
    cut(tmp_path / "a.wav", 44 + 2 * 1600)
    with pytest.raises(UserError, match=r"a.wav is cut off after 0.10 seconds"):
        read_audio(tmp_path / "a.wav", RATE)
    noise = np.random.default_rng(0).uniform(-1, 1, 20 * RATE)
    soundfile.write(tmp_path / "a.flac", noise, RATE, "PCM_16")
    cut(tmp_path / "a.flac", (tmp_path / "a.flac").stat().st_size // 2)
    with pytest.raises(UserError, match=r"a.flac (is cut off|cannot be read)"):
        read_audio(tmp_path / "a.flac", RATE)


@pytest.mark.parametrize("data", [None, 0, 0xFFFFFFFF, 0x7FFFF000])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF024, 0x7FFFF000])
def test_a_file_from_a_pipe_does_not_know_its_size(tmp_path, size, data):
    soundfile.write(tmp_path / "a.wav", SINE, RATE, "PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = struct.pack("<I", size)
    if data is not None:
        content[40:44] = struct.pack("<I", data)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_audio(tmp_path / "a.wav", RATE)) == len(SINE)


@pytest.mark.parametrize("rate", [1, 999, 2**31 - 1])
def test_a_sampling_rate_that_no_recording_has(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", SINE, RATE, "PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UserError, match=f"a.wav announces {rate:,} samples a second; .* from 1,000 to 1,000,000"):
        read_audio(tmp_path / "a.wav", RATE)


def test_a_header_that_announces_terabytes(tmp_path):
    soundfile.write(tmp_path / "a.flac", SINE, RATE, "PCM_16")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21:26] = bytes([content[21] | 0xF, 0xFF, 0xFF, 0xFF, 0xFF])  # 36 bits: the number of samples
    (tmp_path / "a.flac").write_bytes(content)
    with limited_memory(), pytest.raises(UserError, match=r"a.flac (is cut off|cannot be read)") as caught:
        read_audio(tmp_path / "a.flac", RATE)
    assert "allocate" not in str(caught.value)


def test_a_recording_that_needs_more_than_the_limit(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros((50 * RATE, 4)), RATE, "PCM_16")
    assert (tmp_path / "a.flac").stat().st_size < 60_000
    assert len(read_audio(tmp_path / "a.flac", RATE, limit=8 * 50 * RATE)) == 50 * RATE
    for rate, limit in ((RATE, 8 * 50 * RATE - 1), (10 * RATE, 8 * 50 * RATE)):
        with pytest.raises(UserError, match=r"a.flac needs at least .* of memory, and the limit is 6.1 MiB"):
            read_audio(tmp_path / "a.flac", rate, limit)


def test_long_recordings_are_read_in_blocks(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.stack([SINE, 0.5 * SINE], 1), RATE, "FLOAT")
    whole = read_audio(tmp_path / "a.wav", RATE)
    monkeypatch.setattr(audio, "BLOCK", 999)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE), whole)


def test_fewer_samples_than_one_at_the_other_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", SINE[:1], 44_100, "PCM_16")
    with pytest.raises(UserError, match=r"a.wav is a recording without samples at 8000 Hz: it has 1 at 44100 Hz"):
        read_audio(tmp_path / "a.wav", 8_000)


@pytest.mark.parametrize("sample", [3e38, -1e10, np.inf])
def test_samples_whose_power_overflows(tmp_path, sample):
    soundfile.write(tmp_path / "a.wav", np.stack([SINE, np.full_like(SINE, sample)], 1), RATE, "FLOAT")
    with pytest.raises(UserError, match=r"a.wav has samples that are not finite numbers, or beyond 2147483648"):
        read_audio(tmp_path / "a.wav", 8_000)
    soundfile.write(tmp_path / "a.wav", SINE * 2.0**32, RATE, "FLOAT")
    loudest = log_mel(Spectrum(), jnp.asarray(read_audio(tmp_path / "a.wav", RATE)[None]))
    assert np.isfinite(loudest).all()


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"a.raw", b"x.wav\x1b[2J"])
def test_names_that_soundfile_takes_otherwise(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    soundfile.write(tmp_path / "a.wav", SINE, RATE, "PCM_16")
    (tmp_path / "a.wav").rename(path)
    if path.suffix == ".raw":
        with pytest.raises(UserError, match=r"a.raw cannot be read as a recording"):
            read_audio(path, RATE)
    else:
        assert len(read_audio(path, RATE)) == len(SINE)


def of_scipy(config: Spectrum, signal: np.ndarray) -> np.ndarray:
    """Log mel bands in float64, from scipy's transforms; triangles drawn by interpolation."""
    window = np.asarray(scipy.signal.get_window("hann", config.window_samples))
    frames = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float64), len(window))[:: config.hop_samples]
    power = np.abs(np.asarray(scipy.fft.rfft(frames * window, config.fft))) ** 2
    mel = lambda f: 1127.01048 * np.log(1 + f / 700)  # noqa: E731  (the same scale as HTK writes it with log10)
    edges = np.linspace(mel(config.low), mel(config.highest), config.mels + 2)
    hertz = 700 * (np.exp(edges / 1127.01048) - 1)
    frequencies = np.linspace(0, config.rate / 2, config.fft // 2 + 1)
    bands = [np.interp(frequencies, hertz[i : i + 3], [0, 1, 0], left=0, right=0) for i in range(config.mels)]
    return np.log(np.maximum(power @ np.stack(bands, 1), 1e-10))


@pytest.mark.parametrize("config", [Spectrum(), Spectrum(8000, 0.032, 0.008, 20, 50.0, 3800.0)])
def test_features_are_scipys(config):
    random = np.random.default_rng(0)
    signals = (0.1 * random.normal(size=(2, 9000)) + np.sin(np.arange(9000) / 7)).astype(np.float32)
    expected = np.stack([of_scipy(config, signal) for signal in signals])
    result = log_mel(config, jnp.asarray(signals))
    assert result.shape == (2, config.frames(9000), config.mels) and result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=1e-4)
    cosines = np.asarray(scipy.fft.dct(expected, type=2, norm="ortho"))[..., :13]
    np.testing.assert_allclose(mfcc(config, jnp.asarray(signals)), cosines, atol=1e-4)


def test_frames_of_short_signals():
    config = Spectrum()  # windows of 400 samples, every 160
    assert [config.frames(n) for n in (1, 400, 559, 560, 720)] == [1, 1, 1, 2, 3]
    np.testing.assert_array_equal(config.frames(np.array([1, 560])), [1, 2])
    short, padded = jnp.ones((1, 100), jnp.float32), jnp.pad(jnp.ones((1, 100), jnp.float32), ((0, 0), (0, 300)))
    np.testing.assert_array_equal(log_mel(config, short), log_mel(config, padded))


def test_silence_is_finite():
    features = log_mel(Spectrum(), jnp.zeros((1, 1600), jnp.float32))
    np.testing.assert_allclose(features, np.log(1e-10), rtol=1e-6)
    lengths = jnp.asarray([features.shape[1]])
    np.testing.assert_array_equal(normalise(features, lengths), np.zeros(features.shape))


def test_normalised_over_what_counts():
    random = np.random.default_rng(0)
    features = jnp.asarray(3 + 2 * random.normal(size=(3, 50, 4)), jnp.float32).at[1, 30:].set(jnp.nan)
    lengths = jnp.asarray([50, 30, 1])
    own = np.asarray(normalise(features, lengths))
    np.testing.assert_allclose(own[1, :30].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(own[1, :30].std(0), 1, atol=1e-4)
    assert not own[1, 30:].any() and not own[2].any()
    scale = scale_of(features, lengths)
    rows = np.concatenate([row[:length] for row, length in zip(np.asarray(features), (50, 30, 1))])
    np.testing.assert_allclose(scale.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scale.deviation, rows.std(0), rtol=1e-4)
    shared = np.asarray(normalise(features, lengths, scale))
    np.testing.assert_allclose(shared[0], (rows[:50] - rows.mean(0)) / rows.std(0), atol=1e-4)


def test_a_level_leaves_the_differences_of_bands():
    random = np.random.default_rng(0)
    bands = np.arange(4.0)
    features = jnp.asarray(bands + random.normal(size=(2, 50, 4)), jnp.float32).at[1, 30:].set(jnp.nan)
    lengths = jnp.asarray([50, 30])
    levelled = np.asarray(audio.normalise(features, lengths, audio.level_of(features, lengths)))
    for row, louder, length in zip(levelled, np.asarray(features), (50, 30)):
        assert row[:length].mean() == pytest.approx(0, abs=1e-5)
        assert row[:length].std() == pytest.approx(1, abs=1e-4)
        deviation = louder[:length].std()
        np.testing.assert_allclose(np.diff(row[:length]), np.diff(louder[:length]) / deviation, atol=1e-4)
        assert not row[length:].any()
    again = audio.normalise(features + 3, lengths, audio.level_of(features + 3, lengths))
    np.testing.assert_allclose(again, levelled, atol=1e-4)


def test_stripes_of_features_and_of_frames():
    lengths = jnp.asarray([60, 10] * 200, jnp.int32)
    ones = jnp.ones((400, 60, 16), jnp.float32)
    config = SpecAugment(1, 5, 0, 0)
    hidden = np.asarray(audio.spec_augment(config, KEY, ones, lengths)) == 0
    assert (hidden.all(1) == hidden.any(1)).all(), "whole features"
    counts = hidden[:, 0].sum(1)
    assert (counts.min(), counts.max()) == (0, 5)
    assert (np.diff(np.pad(hidden[:, 0], ((0, 0), (1, 1))).astype(int), axis=1) == 1).sum(1).max() == 1, "one stripe"
    assert hidden[:, 0].any(0).all(), "every feature is hidden at some time"
    hidden = np.asarray(audio.spec_augment(SpecAugment(0, 0, 1, 20, 0.2), KEY, ones, lengths)) == 0
    assert (hidden.all(2) == hidden.any(2)).all(), "whole frames"
    assert hidden[::2, :, 0].sum(1).max() == 12 and hidden[1::2, :, 0].sum(1).max() == 2, "at most a fifth"
    assert not hidden[1::2, 10:].any(), "within the utterance"
    np.testing.assert_array_equal(audio.spec_augment(SpecAugment(0, 0, 0, 0), KEY, ones, lengths), ones)


def test_speed_changes_length_and_pitch():
    time = np.arange(8000) / RATE
    signals = jnp.asarray(np.tile(np.sin(2 * np.pi * 300 * time), (50, 1)), jnp.float32).at[:, 6000:].set(jnp.nan)
    lengths = jnp.full(50, 6000, jnp.int32)
    changed, new_lengths = map(np.asarray, audio.change_speed(KEY, signals, lengths, 0.1))
    factors = 6000 / new_lengths
    assert 0.9 <= factors.min() < 0.92 and 1.08 < factors.max() <= 1.101
    for row, length, factor in zip(changed, new_lengths, factors):
        expected = np.sin(2 * np.pi * 300 * factor * np.arange(length) / RATE)
        np.testing.assert_allclose(row[: length - 100], expected[: length - 100], atol=0.13)  # the length is rounded
        assert not row[length:].any()
    same, same_lengths = audio.change_speed(KEY, signals, lengths, 0.0)
    np.testing.assert_array_equal(same[:, :6000], signals[:, :6000])
    np.testing.assert_array_equal(same_lengths, lengths)


def test_noise_as_far_below_the_signal_as_asked():
    signals = jnp.asarray(np.tile(SINE, (100, 1))).at[:50].multiply(0.1).at[0].set(0.0)
    lengths = jnp.full(100, 4000, jnp.int32)
    noise = np.asarray(audio.add_noise(KEY, signals, lengths, 10.0, 20.0) - signals)
    assert not noise[:, 4000:].any() and not noise[0].any()
    power = np.square(np.asarray(signals)[1:, :4000]).mean(1)
    decibels = 10 * np.log10(power / np.square(noise[1:, :4000]).mean(1))
    assert 9.5 < decibels.min() < 11 and 19 < decibels.max() < 20.5


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Spectrum(hop=0.0), "is too short at 16000 Hz"),
        (lambda: Spectrum(high=9000.0), r"20.0 to 9000.0 Hz; they must lie between 0 and half the rate, 8000.0 Hz"),
        (lambda: Spectrum(mels=200), "200 mel bands are too many"),
        (lambda: mfcc(Spectrum(), jnp.zeros((1, 800)), 41), "41 coefficients of 40 mel bands"),
        (lambda: SpecAugment(time_width=-1), "--spec-augment.time-width is -1; it must be from 0"),
        (lambda: SpecAugment(time_share=1.5), "--spec-augment.time-share is 1.5; it must be from 0 to 1"),
        (lambda: audio.change_speed(KEY, jnp.zeros((1, 8)), jnp.ones(1, int), 1.0), "largest change is 1.0"),
        (lambda: audio.add_noise(KEY, jnp.zeros((1, 8)), jnp.ones(1, int), 5.0, 1.0), "from 5.0 to 1.0 decibels"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError, match=message):
        make()
