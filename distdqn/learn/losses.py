"""From the agent's config to the function that the learner minimises."""

from __future__ import annotations

from distdqn.config import AgentConfig, LearnerConfig
from distdqn.learn.loss import Loss
from distdqn.learn.sequences import make_sequence_loss
from distdqn.learn.transitions import make_transition_loss
from distdqn.nets.qnetwork import QNetwork


def make_loss(
    config: AgentConfig, learner: LearnerConfig, stack: int, online: QNetwork, target: QNetwork, compiled: bool = False
) -> Loss:
    """The loss of `config` over windows: of single transitions where that is all it needs, else of sequences, which
    are never `compiled`."""
    if config.transitions:
        return make_transition_loss(config, learner, stack, online, target, compiled)
    return make_sequence_loss(config, stack, online, target)
