"""A simulated survey in the telescope's own format, for demonstrations, tests and benchmarks.

    conditions.py   what the night was like: seeing, sky, exposure, defects, drawn from (seed, frame, size)
    scene.py        stars, galaxies, comets and what else the sky holds, drawn as stamps
    camera.py       what the camera adds: saturation, bleeding, cosmic rays, fringes, gradients, noise, counts
    extraction.py   the catalogue, extracted from the finished pixels with the settings of the telescope's pipeline
    files.py        FITS frames and ASCII_HEAD catalogues
    survey.py       frames in parallel, names, labels

What reads a survey cannot tell from its files that it was simulated, except by ``survey.json`` beside them, which
nothing but the simulator reads.
"""

from satdet.simulate.survey import simulate_survey

__all__ = ["simulate_survey"]
