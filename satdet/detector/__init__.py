"""The detector: Faster R-CNN on a ResNet with a feature pyramid, for tiles of one channel and one class of object.

One concept a module: `ignored` regions, `backbone`, `proposals`, RoI `heads`, pretrained `weights`, the whole `model`.
"""

from satdet.detector.heads import suppress
from satdet.detector.model import Detector, build_detector
from satdet.detector.weights import find_weights, required_weights

__all__ = ["Detector", "build_detector", "find_weights", "required_weights", "suppress"]
