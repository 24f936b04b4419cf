"""The RoI heads: from proposals to losses in training, and to scored candidate boxes otherwise."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

from satdet.detector.batch_norm import shares_batch_norm
from satdet.detector.ignored import leave_out_ignored
from satdet.detector.sampling import TileSampler

OBJECT = 1
"""The label of an object; 0 is background."""
_MIN_SIDE = 1e-2


class Float32Predictor(FastRCNNPredictor):  # type: ignore[misc]
    """torchvision's box predictor; its outputs are float32 under autocast too, so that boxes and losses are."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (n, 2) and box deltas (n, 8) of n proposals."""
        logits, deltas = super().forward(features)
        return logits.float(), deltas.float()


class ObjectHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's RoI heads that know ignored regions and leave non-maximum suppression to `suppress`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        theirs: Any = self.fg_bg_sampler
        self.fg_bg_sampler: Any = TileSampler(theirs.batch_size_per_image, theirs.positive_fraction, purpose=1)

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Candidates of each tile and no losses; with `targets` no candidates and the two losses of the box head."""
        if targets is None:
            return self._candidates(*self._predict(features, proposals, image_shapes), proposals, image_shapes), {}
        return [], self._losses(features, proposals, image_shapes, targets)

    def _predict(
        self, features: dict[str, Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        pooled = self.box_roi_pool(features, proposals, sizes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas.unflatten(1, (-1, 4))[:, OBJECT]

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        proposals, labels, wanted = self._sample(proposals, targets)
        if len(labels) == 0:  # data-parallel training needs every parameter in the graph even then
            nothing = sum((parameter.sum() for parameter in self.parameters()), start=labels.new_zeros(())) * 0.0
            if shares_batch_norm(self):  # and the other workers wait for this one's part of the statistics
                channels, side = features["0"].shape[1], self.box_roi_pool.output_size
                logits, deltas = self.box_predictor(self.box_head(features["0"].new_zeros(0, channels, *side)))
                nothing = nothing + logits.sum() + deltas.sum()
            return {"loss_classifier": nothing, "loss_box_reg": nothing}
        logits, deltas = self._predict(features, proposals, sizes)
        objects = labels == OBJECT
        box_loss = F.smooth_l1_loss(deltas[objects], wanted[objects], beta=1 / 9, reduction="sum")
        return {"loss_classifier": F.cross_entropy(logits, labels), "loss_box_reg": box_loss / len(labels)}

    def _sample(self, proposals: list[Tensor], targets: list[dict[str, Tensor]]) -> tuple[list[Tensor], Tensor, Tensor]:
        """The proposals to learn from, and of all tiles together their labels (n,) and wanted deltas (n, 4)."""
        truth = [target["boxes"].to(proposals[0]) for target in targets]
        proposals = self.add_gt_proposals(proposals, truth)
        matched, labels = self.assign_targets_to_proposals(proposals, truth, [target["labels"] for target in targets])
        leave_out_ignored(labels, proposals, targets)
        chosen = self.fg_bg_sampler(labels, targets)
        sampled = [torch.where(positive | negative)[0] for positive, negative in zip(*chosen, strict=True)]
        proposals = [boxes[index] for boxes, index in zip(proposals, sampled, strict=True)]
        wanted = []
        for boxes, own, index, kept in zip(truth, matched, sampled, proposals, strict=True):
            matched_boxes = boxes[own[index]] if len(boxes) else kept
            wanted.append(self.box_coder.encode_single(matched_boxes, kept))
        return proposals, torch.cat([own[index] for own, index in zip(labels, sampled, strict=True)]), torch.cat(wanted)

    def _candidates(
        self, logits: Tensor, deltas: Tensor, proposals: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        counts = [len(boxes) for boxes in proposals]
        all_boxes = torch.split(self.box_coder.decode_single(deltas, torch.cat(proposals)), counts)
        all_scores = torch.split(logits.softmax(dim=1)[:, OBJECT], counts)
        candidates = []
        for boxes, scores, size in zip(all_boxes, all_scores, sizes, strict=True):
            likely = scores > self.score_thresh
            boxes, scores = clip_boxes_to_image(boxes[likely], size), scores[likely]
            keep = remove_small_boxes(boxes, _MIN_SIDE)
            candidates.append({"boxes": boxes[keep], "scores": scores[keep]})
        return candidates


def suppress(
    candidates: Sequence[dict[str, Tensor]], nms_threshold: float, max_detections: int
) -> list[dict[str, Tensor]]:
    """Non-maximum suppression of each tile's candidates.

    One forward pass serves a whole grid of thresholds: ``suppress(detector.candidates(images), threshold, limit)``.

    Parameters
    ----------
    candidates : sequence of dict
        One a tile, as `Detector.candidates` returns them.
    nms_threshold : float
        A candidate goes when its IoU with a better one is above this.
    max_detections : int
        Detections kept of each tile.

    Returns
    -------
    list of dict
        One a tile: ``boxes`` (n, 4) float32 [px], ``scores`` (n,) float32, ``labels`` (n,) int64; best first.
    """
    detections = []
    for tile in candidates:
        keep = nms(tile["boxes"], tile["scores"], nms_threshold)[:max_detections]
        labels = torch.full((len(keep),), OBJECT, dtype=torch.int64, device=keep.device)
        detections.append({"boxes": tile["boxes"][keep], "scores": tile["scores"][keep], "labels": labels})
    return detections
