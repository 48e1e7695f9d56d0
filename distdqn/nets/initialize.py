"""How weights start, by name. Biases start at zero, except with `fan_in`."""

from torch import nn


def initialize(module: nn.Module, name: str) -> None:
    """Initializes every linear and convolutional layer in place.

    `fan_in`: weights and biases uniform within +-1 / sqrt(fan-in), PyTorch's default and that of the Lua Torch of
    Mnih et al. 2015, which each layer starts with when it is made; `xavier`: Glorot and Bengio 2010, uniform; `he`:
    He et al. 2015, normal; `orthogonal`: Saxe et al. 2014; `zeros`: a table's usual start.

    Raises `ValueError`: an unknown name.
    """
    if name == "fan_in":
        return
    rules = {
        "xavier": nn.init.xavier_uniform_,
        "he": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
        "orthogonal": nn.init.orthogonal_,
        "zeros": nn.init.zeros_,
    }
    if name not in rules:
        raise ValueError(f"unknown initializer {name!r}: fan_in, {', '.join(rules)}")
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            rules[name](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
