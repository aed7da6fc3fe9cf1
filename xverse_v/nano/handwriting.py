"""Handwritten digits: the UCI set that ships inside scikit-learn, written into images.

What crosses: a split's name and a seeded generator -> a `Digit` (which sample, its value, its look) and `write`, which
puts it on an image. Every fifth sample belongs to the test split and no training image ever shows it. This file refuses
to know where in an image a digit goes. Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits",
UCI.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps

from xverse_v.errors import error

HELD_BACK = 5  # every fifth sample is kept for testing
INKS = ((0, 0, 0), (20, 20, 60), (25, 35, 130), (60, 60, 60), (40, 20, 20))


@dataclass(frozen=True)
class Digit:
    """A written digit: the number of the sample, what it says, its side in pixels, its slant in degrees, its ink.

    `stretch` is its width over its height, `lean` how far its top moves to the left, in heights: other hands than those
    that wrote the samples.
    """

    sample: int
    value: int
    side: float
    slant: float
    ink: tuple[int, int, int]
    stretch: float = 1.0
    lean: float = 0.0


@lru_cache(maxsize=1)
def samples() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 samples: uint8[1797, 8, 8] of ink, 0 to 255, and what they say, int64[1797]. Raises E900."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as missing:
        raise error("E900", package="scikit-learn") from missing
    found = load_digits()
    return np.round(found.images * (255 / 16)).astype(np.uint8), found.target.astype(np.int64)


def make_digit(rng: random.Random, side: float, *, testing: bool) -> Digit:
    """A digit `side` pixels high, from the samples of its split."""
    values = samples()[1]
    number = rng.randrange(len(values))
    while (number % HELD_BACK == 0) != testing:
        number = rng.randrange(len(values))
    return Digit(number, int(values[number]), side, rng.uniform(-9, 9), rng.choice(INKS))


def write(image: Image.Image, digit: Digit, x: float, y: float) -> None:
    """Writes the digit with its middle at pixel x, y."""
    side = max(8, round(digit.side))
    ink = Image.fromarray(samples()[0][digit.sample]).resize((side, side), Image.Resampling.BICUBIC)
    if (digit.stretch, digit.lean) != (1.0, 0.0):
        ink = ImageOps.expand(ink, side // 4)  # room for what moves out
        across = 1 / digit.stretch
        shift = ink.width / 2 * (1 - across + digit.lean * across)
        matrix = (across, -digit.lean * across, shift, 0, 1, 0)
        ink = ink.transform(ink.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    ink = ink.rotate(digit.slant, Image.Resampling.BILINEAR)
    image.paste(digit.ink, (round(x - ink.width / 2), round(y - ink.height / 2)), ink)
