"""The OpenMM example runs as a user would run it, and its molecule is what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "openmm_alanine.py"

# In a process of its own: a Context may start threads, and other tests fork this process.
MINIMISE = """
import sys
import openmm
from openmm import app, unit

pdb = app.PDBFile(sys.argv[1])
system = app.ForceField("amber14-all.xml").createSystem(pdb.topology)
platform = openmm.Platform.getPlatformByName("Reference")
context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
context.setPositions(pdb.positions)
for _ in range(2):
    energy = context.getState(energy=True).getPotentialEnergy()
    print(energy.value_in_unit(unit.kilojoule_per_mole))
    openmm.LocalEnergyMinimizer.minimize(context)
residues = [residue.name for residue in pdb.topology.residues()]
print(*residues, system.getNumParticles(), pdb.topology.getNumBonds())
"""


def run(*command: str) -> list[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_shipped_molecule_is_alanine_dipeptide_at_a_minimum():
    before, after, molecule = run("-c", MINIMISE, str(EXAMPLE.with_name("alanine.pdb")))
    assert molecule == "ACE ALA NME 22 21"
    assert float(after) <= float(before) < 0
    assert float(before) - float(after) < 5  # kJ/mol: the file is rounded to 0.001 A


@pytest.mark.slow
def test_example_runs_through_both_mappers():
    lines = run(str(EXAMPLE), "--walkers", "3", "--cycles", "2", "--steps", "50", "--workers", "2")
    for mapper in ("WorkerMapper", "TaskMapper"):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{mapper}: 6 segments"))
        rows = [line.split() for line in lines[start + 2 : start + 5]]
        assert [row[0] for row in rows] == ["0", "1", "2"]
        for _, time, potential, temperature, phi in rows:
            assert float(time) == pytest.approx(0.2)
            assert -100 < float(potential) < 200
            assert 50 < float(temperature) < 700
            assert -180 <= float(phi) <= 0  # C7eq is at about -75 and 0.2 ps lead nowhere else
    assert re.match("all checks passed", lines[-1])
