"""The segmentation heads in plain PyTorch, [N, D, h, w], after the sources that each names: for segmentation.py.

Each returns its logits, and then those of its auxiliary heads.
"""

import torch
from torch import nn
from torch.nn.functional import interpolate

CLASSES = 5
GRID = (2, 3)  # of a ViT's maps
SWIN = ((5, 8), (3, 4), (2, 2), (1, 1))  # of a Swin's maps for images of 5 x 8 patches
WIDTH = 6  # of a ViT, and of the first stage of a Swin
HEAD = 8  # the heads' own width; the narrower layers of MLA and FPN have half of it


class Layer(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, width: int, side: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, side, padding=side // 2, bias=bias)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


def layer_norm(norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    """Over the channels of a map [N, D, h, w]."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def times(x: torch.Tensor, factor: int, align_corners: bool = False) -> torch.Tensor:
    size = (x.shape[2] * factor, x.shape[3] * factor)
    return interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class Up(nn.Module):
    """VisionTransformerUpHead of fudan-zvg/SETR for a map without class token, without its last enlargement."""

    def __init__(self, layers: int, side: int, layers_up: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.layers, self.layers_up = layers, layers_up
        for number in range(1, layers + 1):
            self.add_module(f"layer_{number}", Layer(WIDTH if number == 1 else HEAD, HEAD, side, bias=True))
        self.classify = nn.Conv2d(HEAD, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = layer_norm(self.norm, x)
        for number in range(1, self.layers + 1):
            x = self.get_submodule(f"layer_{number}")(x)
            if self.layers == 4 and number < 4:
                x = times(x, 2)
            elif self.layers == 1 and self.layers_up == 2:
                x = times(x, 4)
        return self.classify(x)


class Naive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decode = Up(1, 1, 1)
        self.auxiliary_1, self.auxiliary_2, self.auxiliary_3 = Up(1, 1, 1), Up(1, 1, 1), Up(1, 1, 1)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        a, b, c, d = maps
        return [self.decode(d), self.auxiliary_1(a), self.auxiliary_2(b), self.auxiliary_3(c)]


class Pup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decode = Up(4, 3, 4)
        for number in (1, 2, 3, 4):
            self.add_module(f"auxiliary_{number}", Up(1, 3, 2))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        others = [self.get_submodule(f"auxiliary_{number}")(x) for number, x in enumerate(maps, start=1)]
        return [self.decode(maps[-1]), *others]


class MlaNeck(nn.Module):
    """The LayerNorms of VIT_MLA and its Conv_MLA."""

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2, 3, 4):
            self.add_module(f"norm_{number}", nn.LayerNorm(WIDTH, eps=1e-6))
            self.add_module(f"lateral_{number}", Layer(WIDTH, HEAD, 1, bias=False))
            self.add_module(f"output_{number}", Layer(HEAD, HEAD, 3, bias=False))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        part = self.get_submodule
        p2, p3, p4, p5 = (part(f"lateral_{n}")(layer_norm(part(f"norm_{n}"), x)) for n, x in enumerate(maps, start=1))
        p4_plus = p5 + p4
        p3_plus = p4_plus + p3
        p2_plus = p3_plus + p2
        return [part(f"output_{n}")(x) for n, x in enumerate((p2_plus, p3_plus, p4_plus, p5), start=1)]


class MlaDecode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2, 3, 4):
            self.add_module(f"level_{number}_layer_1", Layer(HEAD, HEAD // 2, 3, bias=False))
            self.add_module(f"level_{number}_layer_2", Layer(HEAD // 2, HEAD // 2, 3, bias=False))
        self.classify = nn.Conv2d(4 * (HEAD // 2), CLASSES, 3, padding=1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        parts = []
        for number, x in enumerate(maps, start=1):
            first, second = (self.get_submodule(f"level_{number}_layer_{layer}") for layer in (1, 2))
            parts.append(times(second(first(x)), 4, align_corners=True))
        return self.classify(torch.cat(parts, dim=1))


class Mla(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neck, self.decode = MlaNeck(), MlaDecode()
        for number in (1, 2, 3, 4):
            self.add_module(f"auxiliary_{number}", nn.Conv2d(HEAD, CLASSES, 1, bias=False))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = self.neck(maps)
        others = [self.get_submodule(f"auxiliary_{number}")(x) for number, x in enumerate(maps, start=1)]
        return [self.decode(maps), *others]


class Linear(nn.Module):
    """DINOv2's BNHead on one map, or on maps resized to the first's size."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn, self.classify = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, CLASSES, 1)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        size = maps[0].shape[2:]
        maps = [interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps]
        return [self.classify(self.bn(torch.cat(maps, dim=1)))]


class FpnNeck(nn.Module):
    """mmdetection's FPN behind Swin's LayerNorms."""

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2, 3, 4):
            width = WIDTH * 2 ** (number - 1)
            self.add_module(f"norm_{number}", nn.LayerNorm(width))
            self.add_module(f"lateral_{number}", nn.Conv2d(width, HEAD, 1))
            self.add_module(f"output_{number}", nn.Conv2d(HEAD, HEAD, 3, padding=1))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        part = self.get_submodule
        sums = [part(f"lateral_{n}")(layer_norm(part(f"norm_{n}"), x)) for n, x in enumerate(maps, start=1)]
        for level in (2, 1, 0):
            above = interpolate(sums[level + 1], size=sums[level].shape[2:], mode="nearest")
            sums[level] = sums[level] + above
        return [part(f"output_{n}")(x) for n, x in enumerate(sums, start=1)]


class FpnDecode(nn.Module):
    """mmsegmentation's FPNHead. Where a side is odd it doubles and cuts at the end; here each doubling is cut,
    which is our own rule: odd sides are compared with that and not with mmsegmentation."""

    def __init__(self) -> None:
        super().__init__()
        for level, layers in ((1, 1), (2, 1), (3, 2), (4, 3)):
            for number in range(1, layers + 1):
                inputs = HEAD if number == 1 else HEAD // 2
                self.add_module(f"level_{level}_layer_{number}", Layer(inputs, HEAD // 2, 3, bias=False))
        self.classify = nn.Conv2d(HEAD // 2, CLASSES, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        sizes = [x.shape[2:] for x in maps]

        def part(level: int, number: int, x: torch.Tensor, size: torch.Size) -> torch.Tensor:
            x = self.get_submodule(f"level_{level}_layer_{number}")(x)
            return interpolate(x, size=size, mode="bilinear", align_corners=False)

        first = part(1, 1, maps[0], sizes[0])
        second = part(2, 1, maps[1], sizes[0])
        third = part(3, 2, part(3, 1, maps[2], sizes[1]), sizes[0])
        fourth = part(4, 3, part(4, 2, part(4, 1, maps[3], sizes[2]), sizes[1]), sizes[0])
        return self.classify(first + second + third + fourth)


class Fpn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neck, self.decode = FpnNeck(), FpnDecode()

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self.decode(self.neck(maps))]
