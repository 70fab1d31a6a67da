"""How alike two images are."""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

_SIGMA = 1.5
_TRUNCATE = 3.5
_BORDER = int(_TRUNCATE * _SIGMA + 0.5)


def structural_similarity(first: Image.Image, second: Image.Image) -> float:
    """Mean structural similarity of two images' luminance (Wang et al. 2004, eq. 13, 17).

    With the paper's Gaussian window of 11 x 11 pixels and its constants, K1 = 0.01 and K2 = 0.03 of 255; a border of
    half a window does not count.

    Args:
        first: a image of more than 10 pixels a side.
        second: another of the same size.

    Returns:
        In [-1, 1]; 1 for equal images.
    """
    x, y = (np.asarray(image.convert("L"), dtype=np.float64) for image in (first, second))
    blurred = partial(gaussian_filter, sigma=_SIGMA, truncate=_TRUNCATE)
    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    inside = slice(_BORDER, -_BORDER)
    return float((luminance * structure)[inside, inside].mean())
