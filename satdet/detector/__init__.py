"""The detector: Faster R-CNN on a backbone with a feature pyramid, for tiles of one channel and one class of object.

One concept a module: `ignored` regions, `backbone`, its `adapters`, `proposals`, RoI `heads` and their `pooling`, the
whole `model`; the file with pretrained `weights`, `loading` it, and `freezing` what is not to be trained.
"""

from satdet.detector.freezing import ParameterCount, count_parameters, ever_trained, freeze
from satdet.detector.heads import suppress
from satdet.detector.model import Detector, build_detector
from satdet.detector.weights import find_weights, required_weights

__all__ = [
    "Detector", "ParameterCount", "build_detector", "count_parameters", "ever_trained", "find_weights", "freeze",
    "required_weights", "suppress",
]  # fmt: skip
