import torch.nn.functional as F
from torch import nn


class ConvBlock(nn.Sequential):
    def __init__(self, before, after):
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )


class BoxNet(nn.Module):
    """Gives losses in training and boxes in evaluation."""

    def __init__(self, width=8):
        super().__init__()
        self.backbone = nn.Sequential(ConvBlock(3, width), nn.MaxPool2d(2), ConvBlock(width, width))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, 4)

    def forward(self, images, targets=None):
        boxes = self.head(self.dropout(self.backbone(images).mean((2, 3))))
        if self.training:
            return {
                "loss_center": F.l1_loss(boxes[:, :2], targets[:, :2]),
                "loss_size": F.smooth_l1_loss(boxes[:, 2:], targets[:, 2:]),
            }
        return boxes


def get_model(width):
    return BoxNet(width)
