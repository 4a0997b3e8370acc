"""Augmentation: each change against NumPy or SciPy on the same draws, and what it may never do."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from pipeline.data import augmentation
from pipeline.data.augmentation import Augmentation, augment
from pipeline.errors import UserError

KEY = jax.random.key(7)
IMAGES = jax.random.normal(jax.random.key(0), (40, 9, 12, 2), jnp.float32)
SIGNALS = jax.random.normal(jax.random.key(1), (40, 11, 2), jnp.float32)
FOR_IMAGES = {
    "shift": 2, "crop_padding": 3, "flip": True, "cutout": 4, "rotate": 20.0, "scale": 0.2, "shear": 0.2,
    "elastic": 0.8, "noise": 0.1, "contrast": 0.5, "brightness": 0.4,
}  # fmt: skip
FINDINGS = jax.random.normal(jax.random.key(2), (40, 11), jnp.float32)
FOR_SIGNALS = {"shift": 4, "scale": 0.3, "shear": 0.5, "noise": 0.1}
CHANGES = [(IMAGES, {name: value}) for name, value in FOR_IMAGES.items()]
CHANGES += [(SIGNALS, {name: value}) for name, value in FOR_SIGNALS.items()]
CHANGES += [(IMAGES, FOR_IMAGES), (SIGNALS, FOR_SIGNALS)]
names = [f"{'image' if inputs.ndim == 4 else 'signal'}-{'+'.join(options)}" for inputs, options in CHANGES]
every_change = pytest.mark.parametrize("inputs, options", CHANGES, ids=names)


@every_change
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_shape_and_dtype_stay(inputs, options, dtype):
    inputs = jax.ShapeDtypeStruct(inputs.shape, jnp.dtype(dtype))
    changed = jax.eval_shape(partial(augment, Augmentation(**options)), KEY, inputs)
    assert (changed.shape, changed.dtype) == (inputs.shape, inputs.dtype)


@pytest.mark.parametrize("inputs, options", CHANGES[:-2], ids=names[:-2])  # all at once takes long to compile
def test_the_key_decides_and_every_example_changes_in_its_own_way(inputs, options):
    equal = jnp.broadcast_to(inputs[:1], inputs.shape)
    change = jax.jit(partial(augment, Augmentation(**options)))
    one, same, other = (np.asarray(change(key, equal)) for key in (KEY, KEY, jax.random.key(8)))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len({example.tobytes() for example in one}) > 1
    assert np.isfinite(one).all()


def test_nothing_is_changed_by_default():
    np.testing.assert_array_equal(augment(Augmentation(), KEY, IMAGES), IMAGES)
    np.testing.assert_array_equal(augment(Augmentation(), KEY, SIGNALS), SIGNALS)


def offsets_found(changed: np.ndarray, padded: np.ndarray, most: int) -> list[tuple[int, int]]:
    """For each image, at which place of its padded self it is found; fails where it is at none."""
    height, width = changed.shape[1:3]
    places = [(row, column) for row in range(2 * most + 1) for column in range(2 * most + 1)]
    return [
        next(p for p in places if np.array_equal(image, large[p[0] : p[0] + height, p[1] : p[1] + width]))
        for image, large in zip(changed, padded)
    ]


@pytest.mark.parametrize("change, mode", [(augmentation.shift, "edge"), (augmentation.crop, "reflect")])
def test_shift_and_crop_cut_from_the_padded_image(change, mode):
    images = jnp.tile(IMAGES, (10, 1, 1, 1))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode)
    offsets = offsets_found(np.asarray(change(KEY, images, 2)), padded, 2)
    assert set(offsets) == {(row, column) for row in range(5) for column in range(5)}, "all places are drawn"


def test_flip_mirrors_about_half_of_the_images():
    images = jnp.tile(IMAGES, (10, 1, 1, 1))
    changed = augmentation.flip(KEY, images)
    mirrored = (changed == images[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (changed == images).all((1, 2, 3))).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_sets_one_square_to_the_mean(side):
    images = jnp.ones((2000, 9, 12, 2), jnp.float32)
    gone = np.asarray(augmentation.cutout(KEY, images, side)) == 0
    np.testing.assert_array_equal(gone[..., 0], gone[..., 1])
    height, width = gone.any((2, 3)).sum(1), gone.any((1, 3)).sum(1)
    np.testing.assert_array_equal(gone[..., 0].sum((1, 2)), height * width)  # a rectangle
    assert height.max() == width.max() == side
    assert min(height.min(), width.min()) >= side // 2
    assert gone.any((0, 3)).all(), "every pixel is cut out at some time"


def test_affine_at_zero_is_the_identity():
    points = augmentation.affine(KEY, IMAGES.shape, 0.0, 0.0, 0.0)
    rows, columns = np.meshgrid(np.arange(9), np.arange(12), indexing="ij")
    np.testing.assert_array_equal(points, np.broadcast_to(np.stack([rows, columns])[:, None], (2, 40, 9, 12)))
    np.testing.assert_array_equal(augmentation.sample(IMAGES, points), IMAGES)


def test_sample_is_bilinear_interpolation_with_repeated_edges():
    points = jax.random.uniform(jax.random.key(2), (2, *IMAGES.shape[:3]), jnp.float32, -3, 14)
    expected = [
        np.stack([map_coordinates(image[..., c], points[:, n], order=1, mode="nearest") for c in range(2)], -1)
        for n, image in enumerate(np.asarray(IMAGES))
    ]
    np.testing.assert_allclose(augmentation.sample(IMAGES, points), np.stack(expected), atol=1e-5)


def test_sample_of_images_with_one_row_or_column():
    for shape in ((3, 1, 5, 1), (3, 5, 1, 1)):
        images = jnp.arange(15, dtype=jnp.float32).reshape(shape)
        points = augmentation.affine(KEY, shape, 0.0, 0.0, 0.0)
        np.testing.assert_array_equal(augmentation.sample(images, points), images)


def directions(points: Any) -> tuple[np.ndarray, np.ndarray]:
    """What one step down and one step to the right in an image are in its source: (batch, 2) each, (rows, columns)."""
    points = np.asarray(points, np.float64)
    return (points[:, :, 1, 0] - points[:, :, 0, 0]).T, (points[:, :, 0, 1] - points[:, :, 0, 0]).T


def test_affine_maps_keep_the_centre_and_their_limits():
    shape = (4000, 9, 12, 1)
    centre = [4, 5.5]
    for arguments in ((30.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.3), (30.0, 0.5, 0.3)):
        points = np.asarray(augmentation.affine(KEY, shape, *arguments))
        np.testing.assert_allclose(points.mean((2, 3)).T, np.broadcast_to(centre, (4000, 2)), atol=1e-4)
    down, right = directions(augmentation.affine(KEY, shape, 30.0, 0.0, 0.0))
    np.testing.assert_allclose((down * right).sum(1), 0, atol=1e-5)  # a rotation keeps angles and lengths
    np.testing.assert_allclose((right**2).sum(1), 1, atol=1e-5)
    angles = np.degrees(np.arctan2(right[:, 0], right[:, 1]))
    np.testing.assert_allclose([angles.min(), angles.max()], [-30, 30], atol=0.2)
    down, right = directions(augmentation.affine(KEY, shape, 0.0, 0.5, 0.0))
    np.testing.assert_allclose(down[:, 0], right[:, 1], atol=1e-5)
    np.testing.assert_allclose([right[:, 1].min(), right[:, 1].max()], [1 / 1.5, 1.5], atol=5e-3)
    down, right = directions(augmentation.affine(KEY, shape, 0.0, 0.0, 0.3))
    np.testing.assert_allclose(right, np.broadcast_to([0, 1], right.shape), atol=1e-5)
    np.testing.assert_allclose([down[:, 1].min(), down[:, 1].max()], [-0.3, 0.3], atol=2e-3)


def test_elastic_displacements_are_smooth_and_as_large_as_asked():
    displacements = np.asarray(augmentation.elastic(KEY, (500, 28, 28, 1), 0.8))
    assert 0.5 < displacements.std() < 0.9
    assert abs(displacements.mean()) < 0.05
    assert np.diff(displacements, axis=2).std() < displacements.std() / 3


def test_circular_shift_is_a_roll():
    changed = np.asarray(augmentation.circular_shift(KEY, SIGNALS, 3))
    rolls = [
        next(k for k in range(-3, 4) if np.array_equal(after, np.roll(before, k, 0)))
        for after, before in zip(changed, np.asarray(SIGNALS))
    ]
    assert set(rolls) == set(range(-3, 4))


def test_amplify_multiplies():
    signals = jnp.tile(SIGNALS, (25, 1, 1))
    factors = np.asarray(augmentation.amplify(KEY, signals, 0.5) / signals)
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1, :1], factors.shape), rtol=1e-4)
    np.testing.assert_allclose([factors.min(), factors.max()], [1 / 1.5, 1.5], atol=0.01)


def test_tilt_adds_a_straight_line_through_the_middle():
    added = np.asarray(augmentation.tilt(KEY, jnp.zeros((1000, 11, 2), jnp.float32), 0.6))
    np.testing.assert_allclose(np.diff(added, 2, axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(added[:, 5], 0, atol=1e-6)
    rise = added[:, -1] - added[:, 0]
    np.testing.assert_allclose([rise.min(), rise.max()], [-0.6, 0.6], atol=0.01)


def test_noise_has_the_deviation_asked_for():
    noise = np.asarray(augmentation.add_noise(KEY, jnp.zeros((100, 20, 20, 3), jnp.float32), 0.3))
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.3], atol=0.005)


def test_light_is_stretched_about_the_mean_and_shifted_within_its_limits():
    changed = augment(Augmentation(contrast=0.5, brightness=0.4), KEY, IMAGES)
    before, after = (images.reshape(40, -1) for images in (IMAGES, changed))
    stretch, offset = np.asarray(after.std(1) / before.std(1)), np.asarray(after.mean(1) - before.mean(1))
    centred = (before - before.mean(1)[:, None]) * stretch[:, None]
    np.testing.assert_allclose(after - after.mean(1)[:, None], centred, atol=1e-5)
    assert 1 / 1.5 <= stretch.min() < 0.8 and 1.3 < stretch.max() <= 1.5
    assert -0.4 <= offset.min() < -0.3 and 0.3 < offset.max() <= 0.4


def test_findings_are_made_noisy():
    changed = augment(Augmentation(noise=0.3), KEY, FINDINGS)
    assert np.std(changed - FINDINGS) == pytest.approx(0.3, rel=0.1)


def test_every_option_has_a_test():
    assert set(FOR_IMAGES) == {field.name for field in dataclasses.fields(Augmentation)}


@pytest.mark.parametrize(
    "inputs, options, parts",
    [
        (IMAGES, {"shift": 9}, ("shift is 9", "9x12", "below 9")),
        (IMAGES, {"crop_padding": 10}, ("crop_padding is 10", "too large")),
        (IMAGES, {"cutout": 30}, ("cutout is 30", "too large")),
        (SIGNALS, {"flip": True}, ("flip is for images", "signals")),
        (SIGNALS, {"rotate": 5.0}, ("rotate is for images", "signals")),
        (FINDINGS, {"scale": 0.1}, ("scale is for images or signals", "tables")),
    ],
)
def test_an_augmentation_that_does_not_fit(inputs, options, parts):
    with pytest.raises(UserError) as caught:
        augment(Augmentation(**options), KEY, inputs)
    assert all(part in str(caught.value) for part in parts), caught.value


@pytest.mark.parametrize("strength", [-3.0, 181.0, np.nan, np.inf])
def test_a_strength_out_of_its_range(strength):
    with pytest.raises(UserError, match=rf"--augmentation\.rotate is {strength}; it must be from 0 to 180"):
        Augmentation(rotate=strength)
