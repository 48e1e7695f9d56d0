"""Random shifts and intensities of images."""

from __future__ import annotations

import pytest
import torch

from distdqn.algo.augment import random_intensity, random_shift


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_shift_is_a_crop_of_the_padded_image(dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (400, 2, 5, 7), generator=generator()).to(dtype)
    got = random_shift(images, 1, generator())
    assert (got.shape, got.dtype) == (images.shape, dtype)
    padded = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    crops = torch.stack([padded[:, :, y : y + 5, x : x + 7] for y in range(3) for x in range(3)])
    # each image with both its planes is one of the nine crops, and all nine occur
    found = (crops == got.float()).flatten(2).all(-1)
    assert found.sum(0).tolist() == [1] * 400
    # five standard deviations of a count of 400 / 9 are 31
    assert ((found.sum(1) - 400 / 9).abs() < 31).all()


def test_no_shift_leaves_the_images() -> None:
    images = torch.rand(3, 1, 4, 4, generator=generator())
    assert torch.equal(random_shift(images, 0, generator()), images)


def test_the_generator_decides() -> None:
    images = torch.rand(50, 1, 8, 8, generator=generator())
    assert torch.equal(random_shift(images, 4, generator(1)), random_shift(images, 4, generator(1)))
    assert not torch.equal(random_shift(images, 4, generator(1)), random_shift(images, 4, generator(2)))


def test_intensity_is_one_clipped_factor_an_image() -> None:
    images = 1 + torch.rand(5000, 2, 2, 2, generator=generator())
    factor = (random_intensity(images, 0.1, generator()) / images).flatten(1)
    torch.testing.assert_close(factor.amax(1), factor.amin(1))
    noise = (factor[:, 0] - 1) / 0.1
    assert noise.abs().max().item() == pytest.approx(2, abs=1e-4)
    # a normal variable lies beyond +-2 with probability 0.0455; five standard deviations of the share are 0.015
    assert (noise.abs() > 1.999).float().mean().item() == pytest.approx(0.0455, abs=0.015)
    assert noise.mean().item() == pytest.approx(0, abs=0.07)


def test_intensity_of_bytes_is_rounded_and_stays_within_them() -> None:
    images = torch.tensor([0, 100, 255], dtype=torch.uint8).repeat(500, 1).view(500, 1, 1, 3)
    got = random_intensity(images, 0.5, generator())
    assert (got.shape, got.dtype) == (images.shape, torch.uint8)
    expected = random_intensity(images.float(), 0.5, generator())
    assert torch.equal(got.float(), expected.round().clamp(max=255))
    assert (expected > 255.5).any() and (got[..., 0] == 0).all()
