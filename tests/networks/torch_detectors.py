"""Two PyTorch detectors: two-stage with RoiAlign, and YOLO-like with NonMaxSuppression at the end.

RoiAlign and NonMaxSuppression are torchvision's operators; here they are ONNX's own, as symbols that
``torch.onnx`` writes as they stand.  Eager PyTorch gives zeros for them, which is enough to export.
"""

# mypy: disable-error-code="misc"
# (torch lives in an environment of its own, so its classes are untyped here)
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.onnx import ops

SIDE, CELLS, STRIDE = 64, 16, 4
"""Pixels of an image's side, places of the feature map's side, and what is between them."""


def _stem(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for after in (channels // 2, channels):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.Conv2d(after, after, 3, 1, 1, groups=after), nn.Conv2d(after, after, 1), nn.ReLU()]
        before = after
    return nn.Sequential(*layers)


def _corners() -> Tensor:
    """A box of 12 pixels in each place, as x1, y1, x2, y2."""
    along = torch.arange(CELLS, dtype=torch.float32) * STRIDE
    y, x = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([x, y, x + 12, y + 12], dim=-1).reshape(-1, 4)


class TwoStage(nn.Module):
    """Proposals from a feature map, the likely ones of them by RoiAlign into a head (Girshick 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _stem(32)
        self.scores = nn.Conv2d(32, 1, 1)
        self.shifts = nn.Conv2d(32, 4, 1)
        self.hidden = nn.Linear(32 * 4 * 4, 64)
        self.classes = nn.Linear(64, 5)
        self.register_buffer("corners", _corners())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        likely = torch.asinh(self.scores(features)).flatten()
        shifts = torch.tanh(self.shifts(features)).permute(0, 2, 3, 1).reshape(-1, 4)
        proposals = self.corners + 4 * shifts
        chosen = torch.nonzero(likely > likely.mean() + 0.1)[:, 0]
        boxes = proposals[chosen]
        crops = ops.symbolic(
            "RoiAlign",
            [features, boxes, torch.zeros_like(chosen)],
            {"output_height": 4, "output_width": 4, "spatial_scale": 1 / STRIDE, "sampling_ratio": 2},
            dtype=torch.float32,
            shape=(boxes.shape[0], 32, 4, 4),
        )
        return torch.softmax(self.classes(torch.relu(self.hidden(crops.flatten(1)))), dim=1), boxes


class Yolo(nn.Module):
    """Boxes and class scores for each place, NonMaxSuppression behind (Redmon et al. 2016, simplified)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _stem(32)
        self.head = nn.Conv2d(32, 4 + 3, 1)
        self.register_buffer("corners", _corners())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.head(self.backbone(image)).flatten(2)
        boxes = self.corners + 4 * torch.asinh(raw[:, :4]).permute(0, 2, 1)
        scores = torch.sigmoid(4 * raw[:, 4:])
        limits = [torch.tensor([20]), torch.tensor([0.45]), torch.tensor([0.5])]
        found = ops.symbolic("NonMaxSuppression", [boxes, scores, *limits], dtype=torch.int64, shape=(20, 3))
        return boxes[0, found[:, 2]], scores[0, found[:, 1], found[:, 2]], found[:, 1]


def two_stage() -> nn.Module:
    """The two-stage detector."""
    return TwoStage()


def yolo() -> nn.Module:
    """The YOLO-like detector."""
    return Yolo()
