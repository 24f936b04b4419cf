"""The proposal generator: anchors, the RPN head, proposals and the RPN's losses."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead, concat_box_prediction_layers
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from satdet.detector.ignored import leave_out_ignored
from satdet.detector.sampling import TileSampler

STRIDES = (4, 8, 16, 32, 64)
"""Pixels a cell of each FPN level, finest first."""


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """torchvision's anchors, made in float32 whatever the features' type, once for each tile size and device.

    torchvision makes them anew at every step and in the features' type: bfloat16 would round positions above 256 px
    to 2 px.
    """

    def __init__(self, sizes: tuple[float, ...], aspect_ratios: tuple[float, ...]) -> None:
        super().__init__(tuple((size,) for size in sizes), (aspect_ratios,) * len(sizes))
        self._made: dict[tuple[object, ...], Tensor] = {}

    def forward(self, images: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors of each tile, (anchors, 4) float32 [px]; all tiles share one tensor."""
        device = feature_maps[0].device
        grids = [tuple(features.shape[-2:]) for features in feature_maps]
        key = (device, *grids)
        if key not in self._made:
            self.set_cell_anchors(torch.float32, device)
            strides = [[torch.tensor(stride, device=device)] * 2 for stride in STRIDES]
            self._made[key] = torch.cat(self.grid_anchors(grids, strides))
        return [self._made[key]] * len(images.image_sizes)


class Float32RPNHead(RPNHead):  # type: ignore[misc]
    """torchvision's RPN head; its outputs are float32 under autocast too, so that boxes and losses are."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness logits and box deltas of each level, (B, anchors, H, W) and (B, 4 * anchors, H, W)."""
        logits, deltas = super().forward(features)
        return [level.float() for level in logits], [level.float() for level in deltas]


class ProposalGenerator(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's region proposal network that knows ignored regions.

    The same result as torchvision's for less work: boxes are decoded only where objectness is among the highest, and
    encoded only for sampled anchors. A batch without any anchor to learn from has zero losses instead of NaN.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        theirs: Any = self.fg_bg_sampler
        self.fg_bg_sampler: Any = TileSampler(theirs.batch_size_per_image, theirs.positive_fraction, purpose=0)

    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Proposals of each tile, (n, 4) [px], best first, and in training the two RPN losses."""
        maps = list(features.values())
        level_logits, level_deltas = self.head(maps)
        anchors = self.anchor_generator(images, maps)
        level_sizes = [level[0].numel() for level in level_logits]
        logits, deltas = concat_box_prediction_layers(level_logits, level_deltas)
        logits, deltas = logits.view(len(anchors), -1), deltas.view(len(anchors), -1, 4)
        proposals = self._propose(logits.detach(), deltas.detach(), anchors[0], level_sizes, images.image_sizes)
        if targets is None:
            return proposals, {}
        return proposals, self._losses(logits, deltas, anchors, targets)

    def _propose(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, level_sizes: list[int], sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        best = self._get_top_n_idx(logits, level_sizes)
        levels = torch.repeat_interleave(torch.tensor(level_sizes, device=best.device))[best]
        scores = logits.gather(1, best).sigmoid()
        chosen = deltas.gather(1, best[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode_single(chosen.flatten(0, 1), anchors[best].flatten(0, 1)).view_as(chosen)
        return [self._suppressed(*tile) for tile in zip(boxes, scores, levels, sizes, strict=True)]

    def _suppressed(self, boxes: Tensor, scores: Tensor, levels: Tensor, size: tuple[int, int]) -> Tensor:
        boxes = clip_boxes_to_image(boxes, size)
        keep = remove_small_boxes(boxes, self.min_size)
        boxes, scores, levels = boxes[keep], scores[keep], levels[keep]
        return boxes[batched_nms(boxes, scores, levels, self.nms_thresh)[: self.post_nms_top_n()]]

    def _losses(
        self, logits: Tensor, deltas: Tensor, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        label_list, matched = self.assign_targets_to_anchors(anchors, targets)
        leave_out_ignored(label_list, anchors, targets)
        positive, negative = (torch.stack(chosen) for chosen in self.fg_bg_sampler(label_list, targets))
        sampled = positive | negative
        count = max(1, int(sampled.sum()))
        labels = torch.stack(label_list)
        wanted = self.box_coder.encode_single(torch.stack(matched)[positive], torch.stack(anchors)[positive])
        objectness_loss = F.binary_cross_entropy_with_logits(logits[sampled], labels[sampled], reduction="sum")
        box_loss = F.smooth_l1_loss(deltas[positive], wanted, beta=1 / 9, reduction="sum")
        return {"loss_objectness": objectness_loss / count, "loss_rpn_box_reg": box_loss / count}
