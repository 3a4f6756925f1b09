"""What an ``openmm.State`` holds, as numbers and arrays, and back as OpenMM's XML.

All numbers are carried bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import openmm

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fields:
    """What a State holds, in OpenMM's units (nm, ps, kJ/mol); None for what it was not asked for.

    Attributes:
        types: sum of the ``State.DataType`` flags.
        box: shape (3, 3), the periodic box vectors as rows.
        positions, velocities, forces: shape (particles, 3), float64.
    """

    types: int
    steps: int
    time: float
    box: Array
    volume: float
    kinetic: float | None
    potential: float | None
    parameters: dict[str, float] | None
    derivatives: dict[str, float] | None
    positions: Array | None
    velocities: Array | None
    forces: Array | None

    @classmethod
    def of(cls, state: openmm.State) -> Fields:
        types = state.getDataTypes()
        energy = bool(types & openmm.State.Energy)

        def vectors(flag: int) -> Array | None:
            if not types & flag:
                return None
            values = np.empty((state._getNumParticles(), 3))
            state._getVectorAsNumpy(flag, values)
            return values

        return cls(
            types,
            state.getStepCount(),
            state.getTime()._value,
            np.array([list(row) for row in state.getPeriodicBoxVectors()._value]),
            state.getPeriodicBoxVolume()._value,
            state.getKineticEnergy()._value if energy else None,
            state.getPotentialEnergy()._value if energy else None,
            dict(state.getParameters()) if types & openmm.State.Parameters else None,
            dict(state.getEnergyParameterDerivatives())
            if types & openmm.State.ParameterDerivatives
            else None,
            vectors(openmm.State.Positions),
            vectors(openmm.State.Velocities),
            vectors(openmm.State.Forces),
        )

    def to_xml(self) -> str:
        """As ``XmlSerializer.serialize`` writes a State; ``repr`` keeps every bit of a float.

        OpenMM's format has no place for parameter derivatives.
        """
        lines = [f'<State stepCount="{self.steps}" time="{self.time!r}" type="State" version="1">']
        lines.append("<PeriodicBoxVectors>")
        lines += [_vector(name, row) for name, row in zip("ABC", self.box.tolist(), strict=True)]
        lines.append("</PeriodicBoxVectors>")
        if self.parameters is not None:
            pairs = "".join(f' {name}="{value!r}"' for name, value in self.parameters.items())
            lines.append(f"<Parameters{pairs}/>")
        if self.kinetic is not None:
            lines.append(
                f'<Energies KineticEnergy="{self.kinetic!r}" PotentialEnergy="{self.potential!r}"/>'
            )
        for tag, element, values in (
            ("Positions", "Position", self.positions),
            ("Velocities", "Velocity", self.velocities),
            ("Forces", "Force", self.forces),
        ):
            if values is not None:
                lines.append(f"<{tag}>")
                lines += [_vector(element, row) for row in values.tolist()]
                lines.append(f"</{tag}>")
        lines.append("</State>")
        return "\n".join(lines)


def _vector(tag: str, row: list[float]) -> str:
    return f'<{tag} x="{row[0]!r}" y="{row[1]!r}" z="{row[2]!r}"/>'
