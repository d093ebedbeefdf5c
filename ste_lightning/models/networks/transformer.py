"""Small transformers: a causal character model, an encoder of sequences, and one of images.

Source of the layers: H. Wang et al., BitNet (2023), figure 2: every quantized linear layer has a
normalization of its own in front of it; S. Ma et al., The Era of 1-bit LLMs (2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ste_lightning.errors import require
from ste_lightning.layers import QuantLinear

__all__ = ["CharacterModel", "SequenceClassifier", "ViT"]


def _linear(before: int, after: int, weight: Any, inputs: Any) -> nn.Sequential:
    linear = QuantLinear(before, after, bias=False, weight_quantizer=weight, input_quantizer=inputs)
    return nn.Sequential(nn.RMSNorm(before), linear)


class _Attention(nn.Module):
    """Softmax attention of several heads between two quantized projections."""

    def __init__(self, width: int, heads: int, causal: bool, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.enter = _linear(width, 3 * width, weight, inputs)
        self.leave = _linear(width, width, weight, inputs)

    def forward(self, x: Tensor) -> Tensor:
        split = self.enter(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        y: Tensor = self.leave(attended.transpose(1, 2).flatten(2))
        return y


class _Blocks(nn.Sequential):
    """Blocks of attention and two linear layers around a GELU, with shortcuts, then a norm."""

    def __init__(
        self, width: int, depth: int, heads: int, causal: bool, weight: Any, inputs: Any
    ) -> None:
        require(width > 0, "width", width, "use a positive integer")
        require(depth > 0, "depth", depth, "use a positive integer")
        fits = heads > 0 and width % heads == 0
        require(fits, "heads", heads, f"use a divisor of width={width}")
        blocks = [_Block(width, heads, causal, weight, inputs) for _ in range(depth)]
        super().__init__(*blocks, nn.RMSNorm(width))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool, weight: Any, inputs: Any) -> None:
        super().__init__()
        self.attention = _Attention(width, heads, causal, weight, inputs)
        self.hidden = nn.Sequential(
            *_linear(width, 4 * width, weight, inputs),
            nn.GELU(),
            *_linear(4 * width, width, weight, inputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        y: Tensor = x + self.hidden(x)
        return y


class _Embedding(nn.Module):
    """A learned vector per token plus one per place."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        require(vocabulary > 1, "vocabulary", vocabulary, "use two or more")
        require(length > 0, "length", length, "use a positive integer")
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(torch.empty(length, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw small vectors."""
        for table in (self.token.weight, self.place):
            nn.init.normal_(table, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors: Tensor = self.token(tokens) + self.place[: tokens.shape[1]]
        return vectors


class CharacterModel(nn.Module):
    """A causal transformer: from the characters so far to the logits of the next one.

    Embedding and last layer are float. ``bitnet`` weights and ``token`` inputs are W1.58A8, two
    times ``sign`` is W1A1.

    Args:
        vocabulary: number of characters; more than the text has do no harm.
        length: longest input.
        width: numbers per character.
        depth: blocks.
        heads: of attention; a divisor of ``width``.
        weight_quantizer: specification for the weights of all blocks; None = float.
        input_quantizer: specification for their inputs; None = float.

    Shapes:
        (batch, up to length) integers -> (batch, the same, vocabulary).

    Raises:
        ConfigurationError: for sizes that cannot be.
    """

    def __init__(
        self,
        vocabulary: int = 256,
        length: int = 128,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        weight_quantizer: Any = "bitnet",
        input_quantizer: Any = "token",
    ) -> None:
        super().__init__()
        self.embedding = _Embedding(vocabulary, length, width)
        self.blocks = _Blocks(width, depth, heads, True, weight_quantizer, input_quantizer)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the character after each place."""
        logits: Tensor = self.head(self.blocks(self.embedding(tokens)))
        return logits


class SequenceClassifier(nn.Module):
    """A transformer encoder over tokens; the mean over all places is classified.

    Args:
        classes: number of outputs.
        vocabulary, length, width, depth, heads, weight_quantizer, input_quantizer: as in
            :class:`CharacterModel`.

    Shapes:
        (batch, up to length) integers -> (batch, classes).
    """

    def __init__(
        self,
        classes: int = 2,
        vocabulary: int = 256,
        length: int = 128,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        weight_quantizer: Any = "bitnet",
        input_quantizer: Any = "token",
    ) -> None:
        super().__init__()
        require(classes > 1, "classes", classes, "use two or more")
        self.embedding = _Embedding(vocabulary, length, width)
        self.blocks = _Blocks(width, depth, heads, False, weight_quantizer, input_quantizer)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.head(self.blocks(self.embedding(tokens)).mean(1))
        return logits


class ViT(nn.Module):
    """A vision transformer; the mean over all patches is classified.

    The defaults are for 32 x 32 pixels. ``image=(3, 224, 224), patch=16, width=192, depth=12,
    heads=3`` is ViT-Ti of H. Touvron et al., DeiT (2021), table 1, with a mean instead of a class
    token and without biases: 5.7 million parameters.

    Args:
        image: (channels, height, width) of an input; both sides are multiples of ``patch``.
        classes: number of outputs.
        patch: side of a patch; the patch's linear map is float, as is the last layer.
        width, depth, heads, weight_quantizer, input_quantizer: as in :class:`CharacterModel`.

    Shapes:
        (batch, channels, height, width) -> (batch, classes).

    Raises:
        ConfigurationError: for sizes that cannot be.
    """

    def __init__(
        self,
        image: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        patch: int = 4,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        weight_quantizer: Any = "bitnet",
        input_quantizer: Any = "token",
    ) -> None:
        super().__init__()
        fits = len(image) == 3 and min(image) > 0
        require(fits, "image", list(image), "use [channels, height, width]")
        fits = patch > 0 and image[1] % patch == image[2] % patch == 0
        require(fits, "patch", patch, f"use a divisor of the image's {image[1]} and {image[2]}")
        require(classes > 1, "classes", classes, "use two or more")
        count = image[1] // patch * (image[2] // patch)
        self.patches = nn.Conv2d(image[0], width, patch, patch)
        self.place = nn.Parameter(torch.empty(count, width))
        nn.init.normal_(self.place, std=0.02)
        self.blocks = _Blocks(width, depth, heads, False, weight_quantizer, input_quantizer)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        patches = self.patches(x).flatten(2).transpose(1, 2) + self.place
        logits: Tensor = self.head(self.blocks(patches).mean(1))
        return logits
