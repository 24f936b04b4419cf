"""Prediction on whole frames, as a Python API; ``python -m satdet.predict`` is the command.

    predictor = Predictor.load("model.pt")
    detections = predictor.predict("frame.fits.gz")
    detections.boxes, detections.scores, detections.sky

`predictor` runs the detector over the tiles of a frame, `seams` joins what they hold, `detections` is what comes out,
and `formats` writes it: a SExtractor catalogue, DS9 regions, CSV, a picture. What is named here is imported when it is
first used, so that the command can answer ``--help`` at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satdet.predict.detections import Detections
    from satdet.predict.formats import write_catalogue, write_csv, write_picture, write_regions
    from satdet.predict.predictor import Predictor

__all__ = ["Detections", "Predictor", "write_catalogue", "write_csv", "write_picture", "write_regions"]

_HOMES = {"Detections": "detections", "Predictor": "predictor"} | dict.fromkeys(
    ("write_catalogue", "write_csv", "write_picture", "write_regions"), "formats"
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
