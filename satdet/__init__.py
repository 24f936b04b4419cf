"""Object detection in telescope frames: data, detector, training, evaluation.

Nothing here knows the search platform, and nothing here is imported before it is asked for: ``import satdet`` is cheap.
"""

__version__ = "0.1.0"
