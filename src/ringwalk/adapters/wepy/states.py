"""OpenMM states as arrays: how they travel, and a State that is built only if someone asks.

``openmm.State`` pickles as XML text: 0.6 s there and back at 23,568 atoms. Here its arrays go to
shared memory as they are, and arrive in an ``ArrayState``, which is an ``openmm.State`` in every
respect: what the arrays can tell, they tell; for all else, calls of OpenMM's C++ code included,
the C++ object is made from the arrays at that moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmm
from openmm import unit

from ringwalk.adapters.wepy.fields import Array, Fields
from ringwalk.memory.codec import travels_as

_VECTOR_UNITS = {
    "positions": unit.nanometer,
    "velocities": unit.nanometer / unit.picosecond,
    "forces": unit.kilojoule_per_mole / unit.nanometer,
}


class _Made:
    """Where SWIG finds the C++ object: it reads ``this`` of what stands in ``State.__dict__``.

    It looks in an object's ``__dict__`` first and only then for an attribute, hence the slots.
    """

    __slots__ = ("_fields", "_state")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._state: openmm.State | None = None

    @property
    def this(self) -> Any:
        if self._state is None:
            self._state = openmm.XmlSerializer.deserialize(self._fields.to_xml())
        return self._state.this

    @property
    def is_made(self) -> bool:
        return self._state is not None


class ArrayState(openmm.State):  # type: ignore[misc]  # OpenMM has no types
    """A State that lies in arrays.

    The arrays that its methods return with ``asNumpy`` are its own, as those of a State are.
    Elsewhere than between Ringwalk's processes it pickles as the State that it stands for.
    """

    def __init__(self, fields: Fields) -> None:
        # Not State.__init__, which would make a C++ object.
        self.__dict__["this"] = _Made(fields)
        self.fields = fields
        self._quantities: dict[str, Any] = {}

    def getDataTypes(self) -> int:
        return self.fields.types

    def getStepCount(self) -> int:
        return self.fields.steps

    def getTime(self) -> Any:
        return unit.Quantity(self.fields.time, unit.picosecond)

    def getPeriodicBoxVolume(self) -> Any:
        return unit.Quantity(self.fields.volume, unit.nanometer**3)

    def getPeriodicBoxVectors(self, asNumpy: bool = False) -> Any:
        if asNumpy:
            return unit.Quantity(self.fields.box.copy(), unit.nanometer)
        return super().getPeriodicBoxVectors()

    def getKineticEnergy(self) -> Any:
        if self.fields.kinetic is None:
            return super().getKineticEnergy()  # raises, and says why
        return unit.Quantity(self.fields.kinetic, unit.kilojoule_per_mole)

    def getPotentialEnergy(self) -> Any:
        if self.fields.potential is None:
            return super().getPotentialEnergy()
        return unit.Quantity(self.fields.potential, unit.kilojoule_per_mole)

    def getParameters(self) -> Any:
        if self.fields.parameters is None:
            return super().getParameters()
        return dict(self.fields.parameters)

    def getEnergyParameterDerivatives(self) -> Any:
        if self.fields.derivatives is None:
            return super().getEnergyParameterDerivatives()
        return dict(self.fields.derivatives)

    def getPositions(self, asNumpy: bool = False) -> Any:
        return self._vectors("positions") if asNumpy else super().getPositions()

    def getVelocities(self, asNumpy: bool = False) -> Any:
        return self._vectors("velocities") if asNumpy else super().getVelocities()

    def getForces(self, asNumpy: bool = False) -> Any:
        return self._vectors("forces") if asNumpy else super().getForces()

    def _vectors(self, name: str) -> Any:
        if name not in self._quantities:
            values = getattr(self.fields, name)
            if values is None:
                return getattr(super(), f"get{name.capitalize()}")(asNumpy=True)
            self._quantities[name] = unit.Quantity(values, _VECTOR_UNITS[name])
        return self._quantities[name]

    @property
    def is_made(self) -> bool:
        """Whether someone asked for the C++ object."""
        return bool(self.__dict__["this"].is_made)

    def __copy__(self) -> ArrayState:
        def copied(values: Array | None) -> Array | None:
            return None if values is None else values.copy()

        fields = self.fields
        return ArrayState(
            replace(
                fields,
                positions=copied(fields.positions),
                velocities=copied(fields.velocities),
                forces=copied(fields.forces),
            )
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        return openmm.XmlSerializer.deserialize, (self.fields.to_xml(),)


def register() -> None:
    """Have States travel between a pool's processes as arrays. Idempotent."""
    travels_as(openmm.State, _reduce)
    travels_as(ArrayState, lambda state: (ArrayState, (state.fields,)))


def _reduce(state: openmm.State) -> Any:
    if state.getDataTypes() & openmm.State.IntegratorParameters:
        # These are not to be had as numbers.
        return state.__reduce_ex__(5)
    return ArrayState, (Fields.of(state),)
