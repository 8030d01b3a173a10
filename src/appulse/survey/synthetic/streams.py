"""Random numbers: a stream for each stage of each class of targets in each block."""

from collections.abc import Callable
from enum import IntEnum

import numpy as np

from .targets import TRACERS, Tracer


class Stage(IntEnum):
    """Steps that draw random numbers, each from its own stream."""

    POPULATION = 0
    MORPHOLOGY = 1
    NEIGHBOURS = 2
    EXPOSURE = 3
    PIXELS = 4
    GAS = 5
    MOTIONS = 6
    CONDITIONS = 7
    SPECTRUM = 8
    SKY = 9
    CATALOGUE = 10
    VOTES = 11
    TRACER = 12


def stream(seed: int, block: int, stage: Stage, tracer: Tracer = "bgs") -> np.random.Generator:
    """Random numbers of one stage of one class in one block."""
    key = np.random.SeedSequence(seed, spawn_key=(block, stage, TRACERS.index(tracer)))
    return np.random.Generator(np.random.SFC64(key))


Streams = Callable[[Stage], np.random.Generator]  # of one class in one block
