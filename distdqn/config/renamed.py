"""Keys that had another name, so that whoever writes the old one is told the new one."""

from __future__ import annotations

_NETWORK = {
    "torso": "torso.kind",
    "width": "torso.width",
    "pool": "torso.pool",
    "normalise": "torso.normalize",
    "pretrained": "torso.pretrained",
    "memory": "memory.kind",
    "memory_size": "memory.size",
    "memory_steps": "memory.steps",
    "memory_layers": "memory.layers",
    "memory_heads": "memory.heads",
    "head": "head.kind",
    **{name: f"head.{name}" for name in ("hidden", "dropout", "dueling", "noisy", "noisy_sigma", "atoms", "v_min")},
    **{name: f"head.{name}" for name in ("v_max", "quantiles", "online_quantiles", "target_quantiles", "cosines")},
    "acting_quantiles": "head.acting_quantiles",
    "initialise": "initializer",
}
_AGENT = {
    "bootstrap": "bootstrap.kind",
    "temperature": "bootstrap.temperature",
    "munchausen_alpha": "bootstrap.alpha",
    "munchausen_clip": "bootstrap.clip",
    "rescale": "network.head.rescale",
    "rescale_epsilon": "network.head.rescale",
    "autoencoder": "auxiliary.weight, with agent.auxiliary.kind=autoencoder",
    "bonus.step_size": "bonus.learning_rate",
    **{f"network.{old}": f"network.{new}" for old, new in _NETWORK.items()},
}
_LEARNER = {
    "optimiser": "optimizer.kind",
    "step_size": "optimizer.learning_rate",
    "schedule": "optimizer.schedule",
    "schedule_decay": "optimizer.schedule_decay",
    "adam_epsilon": "optimizer.epsilon",
    "rmsprop_epsilon": "optimizer.epsilon",
    "rmsprop_decay": "optimizer.decay",
    "rmsprop_centred": "optimizer.centered",
    **{name: f"optimizer.{name}" for name in ("momentum", "weight_decay", "l1", "l2", "max_grad_norm")},
    "max_grad_value": "optimizer.max_grad_value",
    "augment": "augment.kind",
    "augment_pixels": "augment.pixels",
    "augment_intensity": "augment.intensity",
    "online_views": "augment.online_views",
    "target_views": "augment.target_views",
    "reset_period": "reset.period",
    "reset_keep": "reset.keep",
    "target": "target.kind",
    "target_period": "target.period",
    "target_tau": "target.tau",
    "bf16": "precision",
}
RENAMED = {f"agent.{old}": f"agent.{new}" for old, new in _AGENT.items()}
RENAMED |= {f"learner.{old}": f"learner.{new}" for old, new in _LEARNER.items()}
