"""The vocabulary of declarations: plain, frozen, checked values. Nothing here imports torch or ray."""

from satdet.config import ConfigError, TrialConfig
from search_spaces.declare.domains import Choice, Domain, Value
from search_spaces.declare.experiment import Experiment, SimulatedSurvey, Smoke
from search_spaces.declare.protocols import REPORT_PROTOCOL, smoke_of
from search_spaces.declare.settings import (
    ASHA,
    Grid,
    Maximise,
    Minimise,
    Objective,
    Resources,
    RunAll,
    Scheduler,
    Searcher,
    SpeedGuard,
    Stopper,
)
from search_spaces.declare.space import SearchSpace

__all__ = [
    "ASHA",
    "REPORT_PROTOCOL",
    "Choice",
    "ConfigError",
    "Domain",
    "Experiment",
    "Grid",
    "Maximise",
    "Minimise",
    "Objective",
    "Resources",
    "RunAll",
    "Scheduler",
    "SearchSpace",
    "Searcher",
    "SimulatedSurvey",
    "Smoke",
    "SpeedGuard",
    "Stopper",
    "TrialConfig",
    "Value",
    "smoke_of",
]
