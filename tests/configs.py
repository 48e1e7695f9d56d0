"""Short ways to write sections: one flat name for each key of the agent and the learner that tests often set."""

from __future__ import annotations

from typing import Any

from distdqn.config import AgentConfig, HeadConfig, LearnerConfig, MemoryConfig, NetworkConfig, from_mapping, to_mapping
from distdqn.config.section import build
from distdqn.nets.heads import HEADS, Head
from distdqn.nets.memory import MEMORIES, Memory

NETWORK = {
    **dict.fromkeys(("torso", "memory", "head"), "{}.kind"),
    **dict.fromkeys(("width", "pool", "normalize", "pretrained"), "torso.{}"),
    **{f"memory_{name}": f"memory.{name}" for name in ("size", "steps", "layers", "heads")},
    **dict.fromkeys(("hidden", "bias", "dropout", "dueling", "noisy", "noisy_sigma", "rescale"), "head.{}"),
    **dict.fromkeys(("atoms", "v_min", "v_max", "quantiles", "cosines"), "head.{}"),
    **dict.fromkeys(("online_quantiles", "target_quantiles", "acting_quantiles"), "head.{}"),
}
AGENT = {
    "bootstrap": "bootstrap.kind",
    "temperature": "bootstrap.temperature",
    "munchausen_alpha": "bootstrap.alpha",
    "munchausen_clip": "bootstrap.clip",
    "auxiliary": "auxiliary.kind",
    "auxiliary_weight": "auxiliary.weight",
}
LEARNER = {
    "optimizer": "optimizer.kind",
    **dict.fromkeys(("learning_rate", "schedule", "schedule_decay", "epsilon", "decay", "centered"), "optimizer.{}"),
    **dict.fromkeys(("momentum", "weight_decay", "l1", "l2", "max_grad_norm", "max_grad_value"), "optimizer.{}"),
    **{f"target_{name}": f"target.{name}" for name in ("period", "tau")},
    "target": "target.kind",
    "augment": "augment.kind",
    "augment_pixels": "augment.pixels",
    "augment_intensity": "augment.intensity",
    **dict.fromkeys(("online_views", "target_views"), "augment.{}"),
    **{f"reset_{name}": f"reset.{name}" for name in ("period", "keep")},
}


def _sections(names: dict[str, str], flat: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    for name, value in flat.items():
        section, _, key = names.get(name, name).format(name).rpartition(".")
        if section:
            base.setdefault(section, {})[key] = value
        else:
            base[key] = to_mapping(value) if hasattr(value, "__dataclass_fields__") else value
    return base


def network_config(base: NetworkConfig | None = None, **flat: Any) -> NetworkConfig:
    """`network_config(torso="mlp", hidden=(8,), memory="rnn", memory_size=4)`, with what `base` says for the rest."""
    if flat.get("torso") == "tabular":
        flat = {**flat, "hidden": (), "bias": False}
    return from_mapping(NetworkConfig, _sections(NETWORK, flat, to_mapping(base) if base else {}), "agent.network")


def agent_config(**flat: Any) -> AgentConfig:
    """`agent_config(network=..., bootstrap="soft", temperature=0.3, rescale=1e-3)`."""
    if (rescale := flat.pop("rescale", None)) is not None:
        flat["network"] = network_config(flat.get("network"), rescale=rescale)
    return from_mapping(AgentConfig, _sections(AGENT, flat, {}), "agent")


def learner_config(**flat: Any) -> LearnerConfig:
    """`learner_config(optimizer="sgd", learning_rate=0.1, target_period=3)`."""
    return from_mapping(LearnerConfig, _sections(LEARNER, flat, {}), "learner")


def make_head(config: HeadConfig, features: int, actions: int) -> Head:
    """The head that `config` names."""
    head: Head = build(config, HEADS, features, actions)
    return head


def make_memory(config: MemoryConfig, features: int) -> Memory:
    """The memory that `config` names."""
    memory: Memory = build(config, MEMORIES, features)
    return memory
