"""The whole network: shapes, scaling, weights as arrays, and stacking."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.config import NetworkConfig
from distdqn.nets.qnetwork import QNetwork, as_floats, stack_frames
from distdqn.types import EnvSpec
from tests.configs import network_config


def pixels(height: int = 10, width: int = 5, stack: int = 2, actions: int = 3) -> EnvSpec:
    return EnvSpec("pixels", (height, width), "uint8", stack, actions)


def vector(size: int = 5, actions: int = 3) -> EnvSpec:
    return EnvSpec("vector", (size,), "float32", 1, actions)


def images(spec: EnvSpec, count: int = 4) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, *spec.observation_shape), np.uint8))


DUELING = [(torso, d) for torso in ("dqn_2013", "dqn_2015", "mlp") for d in (False, True)]


@pytest.mark.parametrize(("torso", "dueling"), [*DUELING, ("tabular", False)])
@pytest.mark.parametrize("size", [(10, 5), (42, 42), (84, 84), (210, 160)])
def test_q_of_pixels(torso: str, dueling: bool, size: tuple[int, int]) -> None:
    spec = pixels(*size, stack=4, actions=6)
    network = QNetwork(network_config(torso=torso, hidden=(16,), dueling=dueling), spec)
    (q, dist, tau), state = network(images(spec), None)
    assert (q.shape, q.dtype, dist, tau, state) == ((4, 6), torch.float32, None, None, None)
    assert q.isfinite().all()


@pytest.mark.parametrize("torso", ["mlp", "tabular"])
def test_q_of_vectors(torso: str) -> None:
    network = QNetwork(network_config(torso=torso, hidden=(16,)), vector())
    values, state = network(torch.rand(4, 5), network.initial(torch.zeros(4, dtype=torch.int64)))
    assert (values.q.shape, state.shape) == ((4, 3), (4, 0))


def test_bytes_are_scaled_to_one_and_floats_are_not() -> None:
    spec = pixels(2, 2, stack=1, actions=1)
    network = QNetwork(network_config(torso="tabular", hidden=()), spec)
    with torch.no_grad():
        network.head.value[0].weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
    frame = torch.tensor([[[[255, 0], [51, 255]]]], dtype=torch.uint8)
    assert network(frame)[0].q.item() == pytest.approx(1 + 100 * 51 / 255 + 1000)
    network = QNetwork(network_config(torso="tabular", hidden=()), vector(1, 1))
    with torch.no_grad():
        network.head.value[0].weight.fill_(2.0)
    assert network(torch.tensor([[255.0]]))[0].q.item() == 510


def test_tabular_is_a_table() -> None:
    network = QNetwork(network_config(torso="tabular", hidden=(32,), initializer="zeros"), vector(4, 3))
    assert not network(torch.eye(4))[0].q.any()
    assert [tuple(p.shape) for p in network.parameters()] == [(3, 4)]
    table = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    network.load_arrays(dict.fromkeys(network.arrays(), table.T))
    np.testing.assert_array_equal(network(torch.eye(4))[0].q.detach().numpy(), table)


def test_arrays_round_trip_as_copies() -> None:
    spec, config = pixels(), network_config(torso="dqn_2013", hidden=(8,), dueling=True)
    one, two = QNetwork(config, spec), QNetwork(config, spec)
    observation = images(spec)
    expected = one(observation)[0].q
    assert not torch.equal(two(observation)[0].q, expected)
    arrays = one.arrays()
    for array in arrays.values():
        array.flags.writeable = False  # as a view of shared memory is
    two.load_arrays(arrays)
    assert torch.equal(two(observation)[0].q, expected)
    with torch.no_grad():
        for parameter in (*one.parameters(), *two.parameters()):
            parameter.zero_()
    assert any(array.any() for array in arrays.values())


@pytest.mark.parametrize(
    "other",
    [
        (network_config(torso="mlp", hidden=(8,)), vector(actions=4)),
        (network_config(torso="mlp", hidden=(8,)), vector(size=6)),
        (network_config(torso="mlp", hidden=(9,)), vector()),
        (network_config(torso="mlp", hidden=(8, 8)), vector()),
        (network_config(torso="mlp", hidden=(8,), dueling=True), vector()),
        (network_config(torso="tabular"), vector()),
    ],
)
def test_arrays_of_another_network_are_refused(other: tuple[NetworkConfig, EnvSpec]) -> None:
    network = QNetwork(network_config(torso="mlp", hidden=(8,)), vector())
    before = network.arrays()
    with pytest.raises(ValueError, match="another network"):
        network.load_arrays(QNetwork(*other).arrays())
    for name, array in network.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_contrast_subtracts_the_mean_frame() -> None:
    spec = pixels(2, 1, stack=1, actions=1)
    network = QNetwork(network_config(torso="tabular", hidden=(), contrast=5.0), spec)
    with torch.no_grad():
        network.head.value[0].weight.copy_(torch.tensor([[1.0, 10.0]]))
    # two windows of two frames; their mean is (51, 102) / 255 = (0.2, 0.4)
    frames = torch.tensor([[[51, 102], [51, 102]], [[0, 204], [102, 0]]], dtype=torch.uint8).unsqueeze(-1)
    network.centre(frames)
    observation = torch.tensor([[[[255], [0]]]], dtype=torch.uint8)
    expected = 5 * (1 - 0.2) + 10 * 5 * (0 - 0.4)
    assert network(observation)[0].q.item() == pytest.approx(expected, rel=1e-5)
    network.centre(torch.zeros_like(frames))  # measured once
    assert network(observation)[0].q.item() == pytest.approx(expected, rel=1e-5)
    other = QNetwork(network_config(torso="tabular", hidden=(), contrast=5.0), spec)
    other.load_arrays(network.arrays())  # the mean travels with the weights
    assert other(observation)[0].q.item() == pytest.approx(expected, rel=1e-5)


def test_bfloat16_stays_close_and_gives_float32() -> None:
    torch.manual_seed(0)
    spec = pixels(42, 42, stack=4)
    network = QNetwork(network_config(torso="dqn_2013", hidden=(32,), dueling=True), spec)
    exact = network(images(spec))[0].q
    network.bf16 = True
    rounded = network(images(spec))[0].q
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, atol=0.02, rtol=0)


def test_stack_by_hand() -> None:
    frames = torch.tensor([11, 12, 13, 14], dtype=torch.uint8).reshape(1, 4, 1, 1).repeat(4, 1, 1, 1)
    got = stack_frames(frames, torch.tensor([0, 1, 3, 500], dtype=torch.int32), 4)
    assert got.dtype == torch.uint8
    assert got[:, :, 0, 0].tolist() == [[0, 0, 0, 14], [0, 0, 13, 14], [11, 12, 13, 14], [11, 12, 13, 14]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
def test_channels_follow_their_frame(dtype: torch.dtype) -> None:
    """Two frames of 1 x 2 pixels with three channels each; only the newest is of the second row's episode."""
    frames = torch.tensor([[[[1, 0, 1], [0, 1, 1]]], [[[0, 1, 0], [1, 1, 1]]]]).to(dtype).repeat(2, 1, 1, 1, 1)
    got = stack_frames(frames, torch.tensor([1, 0]), 2)
    assert (got.dtype, got.shape) == (dtype, (2, 6, 1, 2))
    newest = [[0, 1], [1, 1], [0, 1]]
    assert got[0, :, 0].int().tolist() == [[1, 0], [0, 1], [1, 1], *newest]
    assert got[1, :, 0].int().tolist() == [[0, 0], [0, 0], [0, 0], *newest]
    assert stack_frames(frames[:, 1:], torch.tensor([1, 0]), 1)[0, :, 0].int().tolist() == newest


def test_bytes_flags_and_floats() -> None:
    for values, expected in ((torch.tensor([0, 51], dtype=torch.uint8), 0.2), (torch.tensor([False, True]), 1.0)):
        floats = as_floats(values)
        assert floats.dtype == torch.float32 and floats.tolist() == [0, pytest.approx(expected)]
    assert as_floats(torch.tensor([51.0])).item() == 51


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 6), min_size=1, max_size=5), st.booleans())
def test_stack_masks_planes_older_than_the_episode(stack: int, ages: list[int], as_float: bool) -> None:
    rng = np.random.default_rng(0)
    frames = torch.from_numpy(rng.integers(1, 256, (len(ages), stack, 2, 3), np.uint8))
    frames = frames.float() if as_float else frames
    got = stack_frames(frames, torch.tensor(ages, dtype=torch.int32), stack)
    assert got.dtype == frames.dtype
    for row, age in enumerate(ages):
        for plane in range(stack):
            back = stack - 1 - plane
            assert torch.equal(got[row, plane], frames[row, plane] * (1 if back <= age else 0))
