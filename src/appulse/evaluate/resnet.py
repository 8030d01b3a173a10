"""Residual networks on images (He et al. 2016), the supervised baseline of AstroCLIP.

Shapes: B images, P outputs; y and x are pixels.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes; those of ResNet18, whose channels double from stage to stage."""

    width: int = 64  # channels of the first stage
    blocks: tuple[int, ...] = (2, 2, 2, 2)  # in each stage

    @property
    def features(self) -> int:
        """Channels of the last stage."""
        return self.width * 2 ** (len(self.blocks) - 1)


class ResNet(nn.Module):
    """ResNet of basic blocks, with torchvision's names of parameters.

    AstroCLIP's is torchvision's with as many outputs as there are properties.
    """

    def __init__(self, config: ResNetConfig, outputs: int, channels: int = 3):
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.stages = len(config.blocks)
        before = width
        for stage, blocks in enumerate(config.blocks):
            after = width * 2**stage
            layer = [BasicBlock(before, after, stride=2 if stage else 1)]
            layer += [BasicBlock(after, after) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
            before = after
        self.fc: nn.Module = nn.Linear(config.features, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "B C y x"]) -> Float[Tensor, "B P"]:
        """Outputs of images; these are used as they come."""
        return self.fc(self.features(x))

    def features(self, x: Float[Tensor, "B C y x"]) -> Float[Tensor, "B D"]:
        """What the last layer reads: the mean over the last stage's map."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two convolutions beside a short cut, which a 1 × 1 convolution fits to the new shape."""

    def __init__(self, before: int, after: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Float[Tensor, "B C y x"]) -> Float[Tensor, "B D v u"]:
        """The next map, smaller by the stride."""
        short = self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + short)
