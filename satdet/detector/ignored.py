"""Ignored regions in training: what lies on one teaches the detector nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area

COVERED = 0.5
"""A box is on an ignored region when the region covers at least this share of the box."""


def covered_share(boxes: Tensor, regions: Tensor) -> Tensor:
    """The largest share of each box that one region covers.

    Parameters
    ----------
    boxes : Tensor
        (n, 4) x1, y1, x2, y2 [px].
    regions : Tensor
        (m, 4), same units.

    Returns
    -------
    Tensor
        (n,) between 0 and 1; 0 without regions, and for a box without area.
    """
    if len(regions) == 0 or len(boxes) == 0:
        return boxes.new_zeros(len(boxes))
    corner_low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    corner_high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    overlap: Tensor = (corner_high - corner_low).clamp(min=0).prod(dim=2)
    area: Tensor = box_area(boxes)
    return overlap.max(dim=1).values / area.clamp(min=torch.finfo(boxes.dtype).tiny)


def leave_out_ignored(
    labels: Sequence[Tensor], boxes: Sequence[Tensor], targets: Sequence[dict[str, Tensor]], background: float = 0
) -> None:
    """Set the label of every background box on an ignored region to -1, in place: samplers pass over -1.

    Parameters
    ----------
    labels, boxes : sequences of Tensor
        One a tile: (n,) labels and (n, 4) boxes [px].
    targets : sequence of dict
        One a tile; a missing ``"ignored"`` means no region.
    background : float
        The label of background.
    """
    for tile_labels, tile_boxes, target in zip(labels, boxes, targets, strict=True):
        regions = target.get("ignored")
        if regions is not None and len(regions):
            on_region = covered_share(tile_boxes, regions.to(tile_boxes)) >= COVERED
            tile_labels[on_region & (tile_labels == background)] = -1
