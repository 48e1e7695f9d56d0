"""From a torso's features back to an image."""

import torch.nn.functional as F
from torch import Tensor, nn

LEAST_CHANNELS = 16


class Decoder(nn.Module):
    """Draws an image from a torso's last maps: `[B, features]` to logits of pixels in [0, 1], `[B, C, H, W]`.

    Transposed convolutions (Zeiler et al. 2010) with ReLU double the maps' sides and halve their channels until both
    sides are at least half of the image's; then the maps are interpolated to the image's size, and a last
    convolution blends them into its channels.

    Args:
        map_shape: channels, height and width of the maps that the features are (`Torso.map_shape`).
        out_shape: C, H, W, of any size; C = 1 for the newest frame alone.
    """

    def __init__(self, map_shape: tuple[int, int, int], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = map_shape
        outputs, *self.size = out_shape
        layers: list[nn.Module] = [nn.Unflatten(1, map_shape)]
        while 2 * height < self.size[0] or 2 * width < self.size[1]:
            fewer = max(channels // 2, LEAST_CHANNELS)
            # a kernel that its stride divides reaches every pixel equally often, so draws no chequerboard
            layers += [nn.ConvTranspose2d(channels, fewer, kernel_size=4, stride=2, padding=1), nn.ReLU()]
            channels, height, width = fewer, 2 * height, 2 * width
        self.maps = nn.Sequential(*layers)
        self.image = nn.Conv2d(channels, outputs, kernel_size=3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        maps = F.interpolate(self.maps(features), self.size, mode="bilinear", align_corners=False)
        return self.image(maps)
