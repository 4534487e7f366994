"""The models that the GPU benchmarks train: a GPT of any size, and ResNet-50, in torch alone."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Size:
    """The shape of a GPT.

    Attributes:
        vocabulary: tokens.
        context: the longest sequence.
        layers, heads, width: as usual; width is a multiple of heads.
    """

    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int


GPT2_SMALL = Size(50_304, 1024, 12, 12, 768)  # 124 million parameters
BYTES = Size(256, 256, 6, 6, 384)  # 11 million, for text read as bytes
TINY = Size(256, 16, 1, 2, 16)


class Block(nn.Module):
    """Causal attention and a network of two layers, each behind a norm."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.norms = nn.ModuleList(nn.LayerNorm(size.width) for _ in range(2))
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.out = nn.Linear(size.width, size.width)
        self.up = nn.Linear(size.width, 4 * size.width)
        self.down = nn.Linear(4 * size.width, size.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norms[1](x))))


class GPT(nn.Module):
    """A decoder with learned positions and a head that shares the embedding."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / ((2 * size.layers) ** 0.5 if residual else 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, length) -> logits (batch, length, vocabulary)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.blocks(self.tokens(tokens) + self.positions(places))
        return functional.linear(self.norm(x), self.tokens.weight)


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """The mean cross-entropy of each next token."""
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


class Bottleneck(nn.Module):
    """Three convolutions, of which the middle one may halve the image, and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        sizes = (
            (channels, width, 1, 1),
            (width, width, 3, stride),
            (width, 4 * width, 1, 1),
        )
        parts: list[nn.Module] = []
        for inside, outside, kernel, step in sizes:
            convolution = nn.Conv2d(inside, outside, kernel, step, kernel // 2, bias=False)
            parts += [convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
        self.residual = nn.Sequential(*parts[:-1])
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != 4 * width:
            project = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet with bottlenecks (He et al. 2016): ResNet-50 by default, 25.6 million parameters."""

    def __init__(self, depths: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> None:
        super().__init__()
        first = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
        channels = width
        for i, depth in enumerate(depths):
            for j in range(depth):
                stride = 2 if i and not j else 1
                layers.append(Bottleneck(channels, width * 2**i, stride))
                channels = 4 * width * 2**i
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(channels, 1000)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images))  # type: ignore[no-any-return]
