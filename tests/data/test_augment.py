"""Augmentation of whole batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ste_lightning.data.augment import Augmentation, crop, cutmix, cutout, flip, mixup, rand
from ste_lightning.errors import ConfigurationError


def rng(seed=0):
    return np.random.default_rng(seed)


def pictures(count=64, channels=3, size=8):
    drawn = np.random.default_rng(1).integers(1, 256, (count, channels, size, size))
    return torch.from_numpy(drawn.astype(np.uint8))


def test_a_crop_is_the_image_moved_with_black_around():
    x, seen = pictures(200, 1), set()
    for before, after in zip(x, crop(x, 2, rng()), strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if torch.equal(padded[:, i : i + 8, j : j + 8], after)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25


def test_half_of_the_images_are_flipped():
    x = pictures(1000, 1)
    y = flip(x, rng())
    turned = (y == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(y[~turned], x[~turned])
    assert 400 < turned.sum() < 600


def test_cutout_blackens_at_most_a_square():
    x = pictures(300)
    y = cutout(x, 4, rng())
    gone = y == 0
    assert torch.equal(y[~gone], x[~gone])
    counts = gone.any(1).flatten(1).sum(1)
    assert counts.max() == 16
    assert counts.min() >= 4
    assert torch.equal(gone.any(1), gone.all(1))


def test_rand_augment_leaves_shape_and_type_and_changes_much():
    x = pictures(200)
    y = rand(x, 2, 9, rng())
    assert (y.shape, y.dtype) == (x.shape, torch.uint8)
    changed = (x != y).flatten(1).any(1).float().mean()
    assert changed > 0.8
    once = rand(x, 1, 9, rng())  # one of twelve operations is the identity
    assert 0.02 < (once == x).flatten(1).all(1).float().mean() < 0.2
    assert torch.equal(y, rand(x, 2, 9, rng()))


def test_geometry_keeps_a_flat_middle():
    x = torch.full((500, 1, 32, 32), 128, dtype=torch.uint8)
    y = rand(x, 1, 3, rng())
    # moved, turned or sheared by a little the middle stays grey; tones change all of it alike
    middle = y[:, 0, 14:18, 14:18].flatten(1).float()
    assert torch.all(middle.amax(1) - middle.amin(1) <= 1)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_mixed_targets_say_what_share_of_the_image_is_whose(mix):
    count = 32
    # image i is filled with i, so its mean says how much came from where
    x = torch.arange(count).float()[:, None, None, None].expand(count, 1, 8, 8).clone()
    soft = torch.eye(count)
    for seed in range(20):
        y, target = mix(x, soft, 1.0, rng(seed))
        torch.testing.assert_close(target.sum(1), torch.ones(count))
        torch.testing.assert_close(y.mean((1, 2, 3)), target @ torch.arange(count).float())


def test_mixing_takes_both_kinds_in_turn():
    augmentation = Augmentation({"mixup": 1.0, "cutmix": 1.0}, (8, 8))
    x, kinds = torch.rand(16, 1, 8, 8), set()
    for seed in range(20):
        y, target = augmentation.mixed(x, torch.arange(16) % 4, 4, rng(seed))
        assert target.shape == (16, 4)
        kinds.add(bool(torch.isin(y, x).all()))
    assert kinds == {True, False}


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_one_kind_alone_mixes_too(kind):
    augmentation = Augmentation({kind: 1.0}, (8, 8))
    assert augmentation.mixes
    x = torch.rand(16, 1, 8, 8)
    y, target = augmentation.mixed(x, torch.arange(16) % 4, 4, rng())
    assert target.shape == (16, 4)
    assert not torch.equal(y, x)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"crops": 4}, "Did you mean 'crop'"),
        ({"crop": 8}, "1 to 7 pixels"),
        ({"cutout": -1}, "1 to 7 pixels"),
        ({"flip": "yes"}, "true or false"),
        ({"mixup": "0.2"}, "positive number"),
        ({"rand": 2}, "count: 2, magnitude: 9"),
        ({"rand": {"count": 2, "magnitude": 11}}, "0 to 10"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigurationError, match=words):
        Augmentation(settings, (8, 8))


def test_nothing_asked_for_is_nothing_done():
    augmentation = Augmentation({"crop": 0, "flip": False, "mixup": None}, (8, 8))
    x = pictures(4)
    assert torch.equal(augmentation.changed(x, rng()), x)
    assert not augmentation.mixes
