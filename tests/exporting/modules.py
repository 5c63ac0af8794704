"""Small PyTorch modules, most of them unfit, that the tests of the export hand over.

Run in the interpreter that has torch; the tests themselves do not import this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OneInput(nn.Module):
    """A convolution with a bias on three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


class TwoInputs(nn.Module):
    """Inputs of two shapes, one with a default."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        masked = image * torch.sigmoid(mask)
        return masked if bias is None else masked + bias


class Branches(nn.Module):
    """A branch on a value of a tensor, which cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x * 2


def fails() -> nn.Module:
    raise RuntimeError("no weights here")


def no_module() -> int:
    return 3
