"""My network: quantized layers stand where torch's layers would."""

from typing import Any

from torch import Tensor, nn

from ste_lightning.layers import QuantConv2d


class MyNetwork(nn.Module):
    """A convolution in float, one with quantized weights and inputs, a linear layer in float.

    A quantizer is a name ("sign"), a mapping ({"map": "lsq", "bits": 4}) or None for float.
    """

    def __init__(
        self, width: int = 32, weight_quantizer: Any = "sign", input_quantizer: Any = "sign"
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.inner = nn.Sequential(
            nn.ReLU() if input_quantizer is None else nn.Identity(),
            QuantConv2d(
                *(width, width, 3),
                padding=1,
                bias=False,
                weight_quantizer=weight_quantizer,
                input_quantizer=input_quantizer,
            ),
            nn.BatchNorm2d(width),
        )
        self.last = nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, 10) of images (batch, 1, height, width)."""
        features = self.first(images)
        return self.last(features + self.inner(features))
