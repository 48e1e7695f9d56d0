"""Keys that had another name, so that whoever writes the old one is told the new one."""


def _moved(section: str, names: str, prefix: str = "") -> dict[str, str]:
    """Keys that moved into `section` and lost a `prefix`."""
    return {prefix + name: f"{section}.{name}" for name in names.split()}


_HEAD = "hidden dropout dueling noisy noisy_sigma atoms v_min v_max cosines"
_QUANTILES = "quantiles online_quantiles target_quantiles acting_quantiles"
_NETWORK = {
    "torso": "torso.kind",
    "normalise": "torso.normalize",
    "memory": "memory.kind",
    "head": "head.kind",
    "initialise": "initializer",
    **_moved("torso", "width pool pretrained"),
    **_moved("memory", "size steps layers heads", prefix="memory_"),
    **_moved("head", f"{_HEAD} {_QUANTILES}"),
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
    "adam_epsilon": "optimizer.epsilon",
    "rmsprop_epsilon": "optimizer.epsilon",
    "rmsprop_decay": "optimizer.decay",
    "rmsprop_centred": "optimizer.centered",
    **_moved("optimizer", "schedule schedule_decay momentum weight_decay l1 l2 max_grad_norm max_grad_value"),
    "augment": "augment.kind",
    **_moved("augment", "pixels intensity", prefix="augment_"),
    **_moved("augment", "online_views target_views"),
    **_moved("reset", "period keep", prefix="reset_"),
    "target": "target.kind",
    **_moved("target", "period tau", prefix="target_"),
    "bf16": "precision",
}
RENAMED = {f"agent.{old}": f"agent.{new}" for old, new in _AGENT.items()}
RENAMED |= {f"learner.{old}": f"learner.{new}" for old, new in _LEARNER.items()}
