"""Helpers that all environments share."""

import numpy as np
import pytest

from distdqn.envs.wrappers import check_actions, enlarge, picture, resize, slot_seeds, to_grey


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.array([0, 4]), r"from 0 to 3, got \[0, 4\]"),
        (np.array([-1, 0]), r"from 0 to 3, got \[-1, 0\]"),
        (np.array([0, 1, 2]), r"int \[2\], not int64 \[3\]"),
        (np.array([0.0, 1.0]), r"int \[2\], not float64"),
    ],
)
def test_bad_actions_are_named(action, message):
    with pytest.raises(ValueError, match=message):
        check_actions(action, num_slots=2, num_actions=4)


def test_good_actions_become_int64():
    checked = check_actions(np.array([3, 0], np.uint8), num_slots=2, num_actions=4)
    assert checked.dtype == np.int64 and checked.tolist() == [3, 0]


def test_near_seeds_share_no_slot_seed():
    seeds = np.concatenate([slot_seeds(seed, 64) for seed in range(20)])
    assert len(set(seeds.tolist())) == 20 * 64 and seeds.min() >= 0 and seeds.max() < 2**31
    assert (slot_seeds(3, 64)[:8] == slot_seeds(3, 8)).all()


def test_to_grey():
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]]], np.uint8)
    expected = [round(0.299 * 255), round(0.587 * 255), round(0.114 * 255), 7]
    assert to_grey(colours).tolist() == [expected]
    assert to_grey(np.dstack([colours, colours[:, :, :1]])).tolist() == [expected]


def test_resize_takes_means_of_areas():
    image = np.array([[0, 30, 60], [90, 120, 150]], np.uint8)
    # Three columns to two: each new one is a whole column and half of the middle one; rows stay.
    expected = [[(0 + 15) / 1.5, (15 + 60) / 1.5], [(90 + 60) / 1.5, (60 + 150) / 1.5]]
    assert resize(image, 2, 2).tolist() == expected
    assert resize(image, 1, 1).tolist() == [[(0 + 30 + 60 + 90 + 120 + 150) / 6]]
    assert resize(image, 2, 3) is image
    assert resize(image, 4, 6).tolist() == image.repeat(2, axis=0).repeat(2, axis=1).tolist()
    assert (resize(np.full((210, 160), 255, np.uint8), 84, 84) == 255).all(), "no overflow"


def test_resize_keeps_channels_apart():
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 5), np.uint8)
    small = resize(image, 4, 4)
    assert small.shape == (4, 4, 5) and small.dtype == np.uint8
    assert all((small[:, :, c] == resize(image[:, :, c], 4, 4)).all() for c in range(5))


def test_pictures_of_frames():
    grey = np.array([[0, 7]], np.uint8)
    assert picture(grey) is grey and picture(grey > 0).tolist() == [[0, 255]]
    colours = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert (picture(colours) == colours[:, :, :3]).all()
    flags = np.array([[[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]], bool)
    shown = picture(flags)
    assert shown.shape == (1, 4, 3) and shown.dtype == np.uint8
    assert len({tuple(p) for p in shown[0, :3].tolist()}) == 3 and not shown[0, 0].any()
    assert (shown[0, 3] == shown[0, 1]).all(), "of equals the first"
    assert picture(np.full((2, 2, 5), 255, np.uint8)).shape == (2, 2, 3)


def test_enlarge_repeats_pixels():
    image = np.array([[1, 2]], np.uint8)
    assert enlarge(image, side=4)[:, :, 0].tolist() == [[1, 1, 2, 2]] * 2
    assert enlarge(np.zeros((300, 200, 3), np.uint8), side=200).shape == (300, 200, 3)
