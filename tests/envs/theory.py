"""What the proving grounds' best and random policies attain, worked out from their rules."""

from __future__ import annotations

import numpy as np

from distdqn.config import EnvConfig
from distdqn.envs import chain, gridworld, recall


def chain_optimal_return(config: EnvConfig) -> float:
    """The best undiscounted return of an episode, by dynamic programming over the steps that are left."""
    next_state, reward = chain.transitions(config)
    value = np.zeros(config.length)
    for _ in range(chain.step_limit(config)):
        value = (reward + value)[next_state].max(axis=1)
    return float(value[chain.START])


def chain_random_return(config: EnvConfig, right: float = 0.5) -> float:
    """The expected undiscounted return of moving right with probability `right` in every step.

    0.5 is the uniformly random policy. epsilon / 2 is epsilon-greedy on the near reward, which is what
    epsilon-greedy agents settle on.
    """
    next_state, reward = chain.transitions(config)
    value = np.zeros(config.length)
    for _ in range(chain.step_limit(config)):
        value = (reward + value)[next_state] @ [1 - right, right]
    return float(value[chain.START])


def chain_reach_probability(config: EnvConfig, right: float = 0.5) -> float:
    """The probability that an episode sees the far end at all, moving right with probability `right`."""
    next_state, _ = chain.transitions(config)
    reached = np.zeros(config.length)
    reached[-1] = 1.0
    for _ in range(chain.step_limit(config)):
        reached[:-1] = reached[next_state[:-1]] @ [1 - right, right]
    return float(reached[chain.START])


def recall_best_return(seen: np.ndarray) -> float:
    """The best expected return of an agent that has seen `seen[cue]` `[CUES, ...]` when it answers.

    Cues that look alike get the same answer: sum over distinct sights of max_a sum_cue P(cue) r(cue, a),
    where every cue is equally likely and the inner sum is over those that look so.
    The return is linear in the probabilities of the answers, so a stochastic policy does no better.
    """
    _, sight = np.unique(seen.reshape(recall.CUES, -1), axis=0, return_inverse=True)
    gain = recall.rewards() / recall.CUES
    return float(sum(gain[sight == i].sum(axis=0).max() for i in np.unique(sight)))


def recall_memoryless_return(config: EnvConfig) -> float:
    """The best expected return of a policy, deterministic or not, that sees the present frame alone.

    Only the answer changes the return, so this is the best that can be done on the question's frame. An agent
    that also sees its previous action is not memoryless: it can carry the cue along in its actions.
    """
    return recall_best_return(recall.observations(config)[:, -1])


def recall_optimal_return(config: EnvConfig) -> float:
    """The best expected return of a policy that remembers every frame of the episode."""
    return recall_best_return(recall.observations(config))


def gridworld_optimal_q(config: EnvConfig, discount: float) -> np.ndarray:
    """Q*(s, a) by value iteration until no value moves by 1e-13, float64 `[size^2, 4]`; 0 in terminal states.

    Q(s, a) = (1 - slip) D(s, a) + slip mean_b D(s, b) with D(s, d) = r(s') + discount V(s') for the cell s'
    in direction d (Sutton and Barto 2018, section 4.4). The step limit has no part in it: a truncated episode
    is bootstrapped.
    """
    next_state, reward = gridworld.transitions(config)
    live = gridworld.nonterminal(config)
    v = np.zeros(len(live))
    while True:
        direct = reward[next_state] + discount * v[next_state]
        q = (1 - config.slip) * direct + config.slip * direct.mean(axis=1, keepdims=True)
        q[~live] = 0.0
        v, previous = q.max(axis=1), v
        if np.abs(v - previous).max() < 1e-13:
            return np.asarray(q)
