"""In a worker: what wepy's OpenMM runner gets for ``openmm.app.Simulation``.

* A state that came as arrays is set from the arrays, not by way of a C++ State.
* The simulation of the last segment is used again where that makes no difference: the same system
  and topology objects (a worker keeps its runner), an equal integrator, platform and properties,
  and nothing in them that remembers what it ran.
* With a seed, integrators and forces are seeded from the walker's stream.

Only wepy's runner module in this process is changed, ``openmm.app`` itself is as it was.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import openmm
import openmm.app
import wepy.runners.openmm as runner_module

from ringwalk.adapters.wepy.states import ArrayState, register

# Integrators without a memory beyond positions, velocities, time and their random numbers, and
# forces without one at all. Others (barostats adapt their moves, custom integrators have
# variables) get a new context each time.
_FORGETFUL = (
    openmm.VerletIntegrator,
    openmm.LangevinIntegrator,
    openmm.LangevinMiddleIntegrator,
    openmm.BrownianIntegrator,
)
_REMEMBERING = (
    "MonteCarloBarostat",
    "MonteCarloAnisotropicBarostat",
    "MonteCarloFlexibleBarostat",
    "MonteCarloMembraneBarostat",
    "PythonForce",
    "CustomCVForce",
)


def install(*, keep: bool, seeded: bool) -> None:
    """Put it in place of ``openmm.app`` in wepy's runner module. Idempotent."""
    register()
    app = types.SimpleNamespace(**vars(openmm.app))
    app.Simulation = Simulations(keep=keep and not seeded, seeded=seeded)
    runner_module.omma = app


class ArrayContext(openmm.Context):  # type: ignore[misc]  # OpenMM has no types
    """A Context that takes a state's arrays as they are."""

    def setState(self, state: openmm.State) -> None:
        """As ``Context.setState``. Fields that the state does not have stay as they are."""
        if not isinstance(state, ArrayState):
            super().setState(state)
            return
        fields = state.fields
        self.setTime(fields.time)
        self.setStepCount(fields.steps)
        self.setPeriodicBoxVectors(*fields.box.tolist())
        if fields.positions is not None:
            self.setPositions(fields.positions)
        if fields.velocities is not None:
            self.setVelocities(fields.velocities)
        for name, value in (fields.parameters or {}).items():
            self.setParameter(name, value)


class Simulations:
    """Called as ``openmm.app.Simulation`` is.

    Attributes:
        made: number of simulations that were made, not used again.
    """

    def __init__(self, *, keep: bool, seeded: bool) -> None:
        self.made = 0
        self._keep = keep
        self._seeded = seeded
        self._key: Any = None
        self._kept: openmm.app.Simulation | None = None
        self._defaults: dict[str, float] = {}

    def __call__(
        self,
        topology: openmm.app.Topology,
        system: openmm.System,
        integrator: openmm.Integrator,
        platform: openmm.Platform | None = None,
        platformProperties: dict[str, str] | None = None,
        state: Any = None,
    ) -> openmm.app.Simulation:
        key = None
        if self._keep and state is None and _is_forgetful(system, integrator):
            key = (topology, system, _description(integrator, platform, platformProperties))
        if key is not None and self._kept is not None and _same(key, self._key):
            self._reset(self._kept)
            return self._kept
        # Before the next one is made: two contexts may not fit on a GPU.
        self._kept = self._key = None
        if self._seeded:
            _seed(system, integrator)
        simulation = openmm.app.Simulation(
            topology, system, integrator, platform, platformProperties, state
        )
        self.made += 1
        simulation.context.__class__ = ArrayContext
        if key is not None:
            self._key, self._kept = key, simulation
            self._defaults = dict(simulation.context.getParameters())
        return simulation

    def _reset(self, simulation: openmm.app.Simulation) -> None:
        """What a state may leave out is again as in a new context."""
        simulation.reporters.clear()
        for name, value in self._defaults.items():
            simulation.context.setParameter(name, value)
        particles = simulation.system.getNumParticles()
        simulation.context.setVelocities(np.zeros((particles, 3)))


def _is_forgetful(system: openmm.System, integrator: openmm.Integrator) -> bool:
    return type(integrator) in _FORGETFUL and not any(
        type(force).__name__ in _REMEMBERING for force in system.getForces()
    )


def _description(
    integrator: openmm.Integrator,
    platform: openmm.Platform | None,
    properties: dict[str, str] | None,
) -> tuple[Any, ...]:
    defaults = {}
    if platform is not None:
        defaults = {
            name: platform.getPropertyDefaultValue(name) for name in platform.getPropertyNames()
        }
    return (
        openmm.XmlSerializer.serialize(integrator),
        None if platform is None else platform.getName(),
        defaults,
        properties,
    )


def _same(one: Any, other: Any) -> bool:
    """Identity for the big objects, which the key keeps alive; equality for their description."""
    return one[0] is other[0] and one[1] is other[1] and one[2] == other[2]


def _seed(system: openmm.System, integrator: openmm.Integrator) -> None:
    """From the walker's stream; 0 would have OpenMM choose for itself."""
    for thing in (integrator, *system.getForces()):
        if hasattr(thing, "setRandomNumberSeed"):
            thing.setRandomNumberSeed(int(np.random.randint(1, 2**31 - 1)))
