"""The Müller-Brown surface: its energy, its gradient, and the exact answer to check a run by.

K. Müller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979): four exponential terms in the plane,
three minima, two saddles; the standard test bed for whatever has to climb out of a well. The
demo asks how rarely a walker of the deepest well is found in the *neck*, high on the way to the
main saddle, and keeps the ensemble on this side of it by a soft floor, so that the equilibrium
is that of one well and the answer is a plain integral.

Two spellings of one surface live here on purpose. ``energy`` takes arrays and serves the
quadrature; ``gradient`` takes two plain floats and is written out term by term, because a
walker in the plane spends all its time there and numpy on two numbers costs ten times more.
The tests hold the one to the finite differences of the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Surface = Callable[[Array, Array], Array]

#: One row a term: A, a, b, c, x0, y0 of A exp(a dx^2 + b dx dy + c dy^2), as in the paper.
TERMS = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)

#: The deepest of the three minima; from here the way to the saddle leads down in y.
WELL = (-0.558, 1.442)

#: Below NECK a walker counts as out of the well. Below FLOOR a harmonic wall pushes it back:
#: there the valley of the next minimum begins, which y alone could not tell from the neck.
NECK = 0.85
FLOOR = 0.8
FLOOR_STIFFNESS = 4000.0

#: The rectangle of the quadrature; outside of it the Boltzmann weight is below 1e-10 of its
#: peak for kT up to 15.
X_RANGE = (-4.0, 1.5)
Y_RANGE = (0.0, 3.5)


def energy(x: Array, y: Array) -> Array:
    """Return the energy of the surface at each point, without the floor."""
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for amplitude, a, b, c, x0, y0 in TERMS:
        dx, dy = x - x0, y - y0
        total += amplitude * np.exp(a * dx * dx + b * dx * dy + c * dy * dy)
    return total


def confined_energy(x: Array, y: Array) -> Array:
    """Return the energy with the floor: what the walkers feel."""
    return energy(x, y) + FLOOR_STIFFNESS / 2.0 * np.minimum(y - FLOOR, 0.0) ** 2


def gradient(x: float, y: float) -> tuple[float, float]:
    """Return (dU/dx, dU/dy) of ``energy`` at one point: ``TERMS``, differentiated, unrolled."""
    dx1 = x - 1.0
    e1 = -200.0 * math.exp(-dx1 * dx1 - 10.0 * y * y)
    dy2 = y - 0.5
    e2 = -100.0 * math.exp(-x * x - 10.0 * dy2 * dy2)
    dx3, dy3 = x + 0.5, y - 1.5
    e3 = -170.0 * math.exp(-6.5 * dx3 * dx3 + 11.0 * dx3 * dy3 - 6.5 * dy3 * dy3)
    dx4, dy4 = x + 1.0, y - 1.0
    e4 = 15.0 * math.exp(0.7 * dx4 * dx4 + 0.6 * dx4 * dy4 + 0.7 * dy4 * dy4)
    return (
        -2.0 * (dx1 * e1 + x * e2) + (11.0 * dy3 - 13.0 * dx3) * e3 + (1.4 * dx4 + 0.6 * dy4) * e4,
        -20.0 * (y * e1 + dy2 * e2) + (11.0 * dx3 - 13.0 * dy3) * e3 + (0.6 * dx4 + 1.4 * dy4) * e4,
    )


def confined_gradient(x: float, y: float) -> tuple[float, float]:
    """Return the gradient of ``confined_energy`` at one point."""
    slope_x, slope_y = gradient(x, y)
    if y < FLOOR:
        slope_y += FLOOR_STIFFNESS * (y - FLOOR)
    return slope_x, slope_y


def boltzmann_integral(
    surface: Surface,
    kt: float,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    nodes: int = 200,
) -> float:
    """Integrate exp(-U/kT) over a rectangle by the Gauss-Legendre rule in both directions."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    x = x_range[0] + (x_range[1] - x_range[0]) * (points + 1.0) / 2.0
    y = y_range[0] + (y_range[1] - y_range[0]) * (points + 1.0) / 2.0
    values = np.exp(-surface(x[:, None], y) / kt)
    area = (x_range[1] - x_range[0]) * (y_range[1] - y_range[0])
    return float(weights @ values @ weights) * area / 4.0


def reference_free_energy(kt: float) -> float:
    """Return the free energy of the neck relative to the well, in kT, by quadrature.

    The rectangles end at FLOOR and NECK: each holds a smooth integrand, on which the rule is
    exact to rounding.
    """
    edges = (Y_RANGE[0], FLOOR, NECK, Y_RANGE[1])
    below, neck, well = (
        boltzmann_integral(confined_energy, kt, X_RANGE, (low, high))
        for low, high in itertools.pairwise(edges)
    )
    return math.log(well / (below + neck))
