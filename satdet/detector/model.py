"""Faster R-CNN for telescope tiles, built from torchvision's parts."""

from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.image_list import ImageList

from satdet.config import DetectorConfig
from satdet.detector.adapters import add_low_rank
from satdet.detector.backbone import LAYOUTS, build_backbone
from satdet.detector.freezing import freeze, rest_frozen_parts, warn_of_random_parts
from satdet.detector.heads import Float32Predictor, ObjectHeads, suppress
from satdet.detector.loading import load_pretrained
from satdet.detector.pooling import Pooling
from satdet.detector.proposals import Anchors, Float32RPNHead, ProposalGenerator
from satdet.detector.weights import find_weights

CLASSES = 2
"""Background and object."""
_POOLED_SIDE = 7
_HEAD_WIDTH = 1024
_STRIDE = 32  # of the coarsest level that is convolved; tiles are padded to a multiple of it


class Detector(nn.Module):
    """Two-stage detector: backbone, proposal generator, RoI heads.

    The parts carry torchvision's names, so that its state dicts fit. Tiles come normalised; they are neither normalised
    nor, at enlargement 1, resized here.

    Parameters
    ----------
    backbone : BackboneWithFPN
    rpn : ProposalGenerator
    roi_heads : ObjectHeads
    enlargement : float
        Factor by which tiles are resized (bilinear) before the backbone; boxes go in and come out in tile px.
    """

    def __init__(
        self, *, backbone: BackboneWithFPN, rpn: ProposalGenerator, roi_heads: ObjectHeads, enlargement: float = 1.0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.enlargement = enlargement

    def train(self, mode: bool = True) -> Self:
        """Set the mode; in training, frozen parts stay in evaluation mode, so that their batch norm stays as it is."""
        super().train(mode)
        if mode:
            rest_frozen_parts(self.backbone.body)
        return self

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections in evaluation mode.

        Parameters
        ----------
        images : Tensor
            (B, 1, H, W) float32, normalised.
        targets : list of dict, optional
            One a tile, needed in training: ``boxes`` (n, 4) float32 [px], ``labels`` (n,) int64, all 1, and ``ignored``
            (m, 4) regions that are neither object nor background.

        Returns
        -------
        dict or list of dict
            In training ``loss_objectness``, ``loss_rpn_box_reg``, ``loss_classifier`` and ``loss_box_reg``, float32
            scalars. In evaluation one dict a tile: ``boxes`` (n, 4) float32 [px], ``scores`` (n,) float32, ``labels``
            (n,) int64, best first.
        """
        if not self.training:
            return suppress(self.candidates(images), self.roi_heads.nms_thresh, self.roi_heads.detections_per_img)
        assert targets is not None, "training needs targets"
        tiles, scale = self._prepare(images)
        if self.enlargement != 1:
            targets = [_scaled(target, scale) for target in targets]
        features = self.backbone(tiles.tensors)
        proposals, proposal_losses = self.rpn(tiles, features, targets)
        _, head_losses = self.roi_heads(features, proposals, tiles.image_sizes, targets)
        losses: dict[str, Tensor] = proposal_losses | head_losses
        return losses

    def candidates(self, images: Tensor) -> list[dict[str, Tensor]]:
        """All scored boxes of each tile above the score threshold, before non-maximum suppression.

        Parameters
        ----------
        images : Tensor
            (B, 1, H, W) float32, normalised.

        Returns
        -------
        list of dict
            One a tile: ``boxes`` (n, 4) float32 [px] and ``scores`` (n,) float32, for `suppress`.
        """
        tiles, scale = self._prepare(images)
        features = self.backbone(tiles.tensors)
        proposals, _ = self.rpn(tiles, features)
        candidates, _ = self.roi_heads(features, proposals, tiles.image_sizes)
        return [{"boxes": tile["boxes"] / scale, "scores": tile["scores"]} for tile in candidates]

    def _prepare(self, images: Tensor) -> tuple[ImageList, Tensor]:
        """Enlarge and pad tiles; the scale (4,) takes boxes from tile px to enlarged px."""
        height, width = images.shape[-2:]
        size = (round(height * self.enlargement), round(width * self.enlargement))
        if size != (height, width):
            images = F.interpolate(images, size=size, mode="bilinear", antialias=self.enlargement < 1)
        padding = (0, -size[1] % _STRIDE, 0, -size[0] % _STRIDE)
        if any(padding):
            images = F.pad(images, padding)
        scale = torch.tensor([size[1] / width, size[0] / height] * 2, device=images.device)
        return ImageList(images, [size] * len(images)), scale


def build_detector(config: DetectorConfig, *, weights_dir: Path | None = None, initialise: bool = True) -> Detector:
    """The detector that `config` describes, on the CPU in training mode, frozen as it is in the first epoch.

    What is not pretrained is random from torch's global generator: seed it first for the same weights again.

    With pretrained weights, one input channel (``mean`` or ``random``) and ``batch_norm="auto"`` the numbers of
    parameters are those of the report, in millions: ResNet18 v1 28.27, ResNet34 v1 38.37, ResNet50 v1 41.29, ResNet101
    v1 60.23 (frozen batch norm, whose statistics are no parameters), ResNet50 v2 43.25 (trainable batch norm).

    Parameters
    ----------
    config : DetectorConfig
    weights_dir : Path, optional
        Where pretrained weights are looked for first; see `find_weights`.
    initialise : bool
        False: no pretrained weights are looked for, since a checkpoint will be loaded.

    Raises
    ------
    WeightsError
        When pretrained weights cannot be had, or do not fit.
    """
    path = find_weights(config, weights_dir) if initialise else None
    backbone = build_backbone(config)
    detector = Detector(
        backbone=backbone,
        rpn=_proposal_generator(config, backbone.out_channels),
        roi_heads=_object_heads(config, backbone.out_channels),
        enlargement=config.enlargement,
    )
    if initialise:
        fresh = load_pretrained(detector, config, path) if path is not None else list(detector.state_dict())
        warn_of_random_parts(detector, config, fresh)
    if config.freezing.mode == "lora":
        for stage in LAYOUTS[config.backbone].stages:
            for child in stage:
                add_low_rank(backbone.body[child], config.freezing.rank, config.freezing.lora_scale)
    freeze(detector, config)
    return detector.train()


def _proposal_generator(config: DetectorConfig, channels: int) -> ProposalGenerator:
    anchors = Anchors(config.anchor_sizes, config.aspect_ratios)
    depth = 2 if config.version == "v2" else 1
    return ProposalGenerator(
        anchors,
        Float32RPNHead(channels, anchors.num_anchors_per_location()[0], conv_depth=depth),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=config.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n={"training": config.proposals_before_nms, "testing": config.proposals_before_nms},
        post_nms_top_n={"training": config.proposals_after_nms, "testing": config.proposals_after_nms},
        nms_thresh=0.7,
    )


def _object_heads(config: DetectorConfig, channels: int) -> ObjectHeads:
    if config.version == "v2":
        shape = (channels, _POOLED_SIDE, _POOLED_SIDE)
        head: nn.Module = FastRCNNConvFCHead(shape, [256] * 4, [_HEAD_WIDTH], norm_layer=nn.BatchNorm2d)
    else:
        head = TwoMLPHead(channels * _POOLED_SIDE**2, _HEAD_WIDTH)
    return ObjectHeads(
        Pooling(config.roi_levels, _POOLED_SIDE),
        head,
        Float32Predictor(_HEAD_WIDTH, CLASSES),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=config.box_samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=config.score_threshold,
        nms_thresh=config.nms_threshold,
        detections_per_img=config.max_detections,
    )


def _scaled(target: dict[str, Tensor], scale: Tensor) -> dict[str, Tensor]:
    boxes = {key: target[key] * scale for key in ("boxes", "ignored") if key in target}
    return target | boxes
