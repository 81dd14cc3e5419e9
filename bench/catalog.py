"""All scenarios by their names."""

from bench.control.scenario import ControlScenario
from bench.data.scenario import DataScenario
from bench.fast.scenario import FastScenario
from bench.origin.scenario import OriginScenario
from bench.scale.scenario import ScaleScenario
from bench.scenario import Scenario
from bench.simulation.scenario import SimulationScenario
from bench.small.scenario import SmallScenario
from bench.stampede.scenario import StampedeScenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        DataScenario(),
        FastScenario(),
        OriginScenario(),
        ControlScenario(),
        SmallScenario(),
        StampedeScenario(),
        SimulationScenario(),
        ScaleScenario(),
    )
}
DEFAULT = ("data", "fast", "origin", "control", "small")
"""What ``make bench`` measures. The stampede needs a cluster, and takes longer."""
