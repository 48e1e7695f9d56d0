"""Real emulators: what a lost life, a game over and a time limit look like, and the twin that is rendered."""

import numpy as np
import pytest

from distdqn.config import EnvConfig, ProtocolConfig
from distdqn.envs.atari import AtariEnv, RenderedAtariEnv, games
from distdqn.envs.wrappers import resize


def config(game: str, frame_size: int | None = 84, frame_skip: int = 4, **protocol) -> EnvConfig:
    return EnvConfig(game=game, frame_size=frame_size, frame_skip=frame_skip, protocol=ProtocolConfig(**protocol))


def actions(env: AtariEnv, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(env.spec.num_actions, size=(steps, env.num_slots))


def play(env: AtariEnv, plan: np.ndarray) -> dict[str, np.ndarray]:
    """The stream of `plan` [T, N]: each array leads with [T], `frame` with [T + 1]."""
    frames, steps = [env.reset()], []
    for action in plan:
        steps.append(env.step(action))
        frames.append(steps[-1].frame)
    fields = {name: np.stack([getattr(s, name) for s in steps]) for name in ("reward", "terminated", "last")}
    return {"frame": np.stack(frames), **fields}


def test_spec_and_dtypes():
    env = AtariEnv(config("pong", frame_size=42), num_slots=3, threads=2, seed=1)
    frame = env.reset()
    step = env.step(np.zeros(3, np.int64))
    assert env.spec.name == "atari/pong" and env.spec.observation_shape == (4, 42, 42)
    assert env.spec.action_names == ("noop", "fire", "right", "left", "rightfire", "leftfire")
    assert env.spec.frame_skip == 4
    assert frame.shape == step.frame.shape == (3, 42, 42) and step.frame.dtype == np.uint8
    assert (step.reward.dtype, step.terminated.dtype, step.last.dtype) == (np.float32, bool, bool)
    before = frame.copy()
    env.step(np.ones(3, np.int64))
    assert (frame == before).all(), "a frame that was handed out was written to"
    env.close()
    env.close()


def test_full_action_set_and_the_default_size():
    env = AtariEnv(config("pong", frame_size=None, full_action_set=True), 1, 1, seed=1)
    assert env.spec.num_actions == 18 and env.spec.frame_shape == (84, 84)


def test_breakout_terminates_at_each_of_five_lives_and_ends_at_the_fifth():
    env = AtariEnv(config("breakout"), num_slots=2, threads=1, seed=3)
    stream = play(env, actions(env, 700))
    for slot in range(2):
        (ends,) = np.nonzero(stream["last"][:, slot])
        assert len(ends) >= 2
        start = 0
        for end in ends:
            lost = stream["terminated"][start : end + 1, slot]
            assert lost.sum() == 5 and lost[-1], "four lives lost on the way, the fifth is the game over"
            start = end + 1
        dummy = ends[ends + 1 < 700] + 1
        assert not stream["reward"][dummy, slot].any() and not stream["terminated"][dummy, slot].any()
        assert not stream["last"][dummy, slot].any()


def test_life_loss_flag_changes_terminated_alone():
    plan = np.random.default_rng(0).integers(4, size=(300, 2))
    with_lives = play(AtariEnv(config("breakout"), 2, 1, seed=3), plan)
    without = play(AtariEnv(config("breakout", life_loss_terminates=False), 2, 1, seed=3), plan)
    assert (without["terminated"] == without["last"]).all() and without["last"].any()
    assert with_lives["terminated"].sum() > without["terminated"].sum()
    for name in ("frame", "reward", "last"):
        assert (with_lives[name] == without[name]).all()


def test_pong_has_no_lives_and_ends_at_21():
    env = AtariEnv(config("pong"), num_slots=2, threads=2, seed=5)
    stream = play(env, np.zeros((1100, 2), np.int64))
    for slot in range(2):
        end = int(np.argmax(stream["last"][:, slot]))
        assert stream["last"][end, slot] and stream["terminated"][end, slot]
        assert stream["terminated"][:end, slot].sum() == 0
        assert stream["reward"][: end + 1, slot].sum() == -21, "standing still loses every rally"
        assert stream["reward"][end + 1, slot] == 0


def test_truncation_is_last_without_terminated_and_its_frame_is_the_final_one():
    plan = np.random.default_rng(0).integers(6, size=(130, 2))
    stream = play(AtariEnv(config("pong", max_frames=240), 2, 1, seed=7), plan)
    endless = play(AtariEnv(config("pong"), 2, 1, seed=7), plan)
    # 240 emulator frames are 240 / 4 = 60 steps; then one dummy, then 60 steps again.
    assert np.flatnonzero(stream["last"].all(axis=1)).tolist() == [59, 59 + 1 + 60]
    assert stream["last"].sum() == 2 * 2 and not stream["terminated"].any()
    assert (stream["frame"][: 60 + 1] == endless["frame"][: 60 + 1]).all()
    assert (stream["frame"][60 + 1] != endless["frame"][60 + 1]).any(), "the dummy shows the next game"


def test_max_frames_between_two_steps_ends_with_the_step_that_reaches_it():
    env = AtariEnv(config("pong", max_frames=41), 1, 1, seed=7)
    assert np.flatnonzero(play(env, actions(env, 15))["last"]).tolist() == [10]  # 11 * 4 = 44 >= 41 > 10 * 4


def test_a_truncation_on_a_lost_life_is_both():
    plan = np.zeros((130, 1), np.int64)
    plan[::2] = 1  # FIRE serves, nobody moves: a life is lost every few seconds
    lost = int(np.argmax(play(AtariEnv(config("breakout"), 1, 1, seed=3), plan)["terminated"]))
    stream = play(AtariEnv(config("breakout", max_frames=4 * (lost + 1)), 1, 1, seed=3), plan)
    assert stream["terminated"][lost] and stream["last"][lost]
    assert not stream["terminated"][lost + 1] and not stream["last"][lost + 1 : 2 * lost + 2].any()


def test_slots_differ_and_the_seed_decides():
    def stream(seed: int, threads: int) -> np.ndarray:
        env = AtariEnv(config("pong", sticky=0.25), 3, threads, seed)
        return play(env, np.tile(actions(env, 40)[:, :1], 3))["frame"]

    first = stream(1, 1)
    assert (first == stream(1, 2)).all()
    assert (first != stream(2, 1)).any()
    for i in range(3):
        for j in range(i):
            assert (first[:, i] != first[:, j]).any(), "same actions, another seed: another game"


def test_no_ops_cover_zero_to_noop_max():
    env = AtariEnv(config("pong", noop_max=2), num_slots=8, threads=1, seed=0)
    env.reset()
    assert set(env._first_frame.tolist()) == {0, 1, 2}
    env = AtariEnv(config("breakout", noop_max=0), num_slots=2, threads=1, seed=0)
    env.reset()
    assert set(env._first_frame.tolist()) == {0}, "no FIRE is pressed for the agent either"


@pytest.mark.parametrize("bad", [[0, 6], [-1, 0]])
def test_an_action_out_of_range_never_reaches_the_emulator(bad):
    env = AtariEnv(config("pong"), 2, 1, seed=1)
    env.reset()
    with pytest.raises(ValueError, match=r"from 0 to 5, got \["):
        env.step(np.array(bad))
    assert env.step(np.array([0, 5])).frame.shape == (2, 84, 84), "it still answers"


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_the_rendered_twin_plays_the_same_game(sticky):
    """Truncations, no-ops and sticky actions: the twin's screen, reduced, is the frame."""
    cfg = config("breakout", frame_skip=1, sticky=sticky, noop_max=6, max_frames=260)
    env, plain = RenderedAtariEnv(cfg, seed=11), AtariEnv(cfg, 1, 1, seed=11)
    assert (env.reset() == plain.reset()).all()
    for k, action in enumerate(actions(env, 560)):
        step, expected = env.step(action), plain.step(action)
        assert (step.frame == expected.frame).all() and step.reward == expected.reward
        assert step.last == expected.last
        if k % 20 == 0 or step.last:
            seen = resize(env._twin.getScreenGrayscale(), 84, 84).astype(int)
            assert np.abs(seen - step.frame[0]).max() <= 1, "rounding of the area filter"
    assert env.render().shape == (210, 160, 3) and env.render().dtype == np.uint8


def test_the_rendered_twin_follows_a_game_over():
    cfg = config("breakout", frame_skip=4, sticky=0.25, life_loss_terminates=False)
    env = RenderedAtariEnv(cfg, seed=11)
    env.reset()
    ends = 0
    for action in actions(env, 500):
        step = env.step(action)
        ends += int(step.last[0])
        assert env._twin.game_over() == step.last[0]
    assert ends >= 2


def test_games_leave_out_those_that_would_end_the_process():
    assert "pong" in games() and "joust" not in games() and len(games()) > 100


def test_rewards_are_the_raw_score():
    env = AtariEnv(config("seaquest"), 1, 1, seed=0)
    rewards = play(env, actions(env, 250))["reward"]
    assert rewards.max() == 20, "the first fish are worth 20 points each"
