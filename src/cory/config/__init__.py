"""Every setting of a run, its rules, and the presets. Loads no torch.

`CORYConfig` is one flat dataclass. Its fields stand by theme in the modules of this package.
"""

from cory.config.algorithm import AlgorithmConfig
from cory.config.extensions import ExtensionConfig
from cory.config.faults import FaultConfig
from cory.config.model import ModelConfig
from cory.config.processes import ProcessConfig
from cory.config.run import RunConfig
from cory.config.sampling import SamplingConfig
from cory.config.settings import FIELD_NAMES, CORYConfig, refuse_unknown_names
from cory.config.task import TaskConfig
from cory.config.team import TeamConfig

__all__ = [
    "FIELD_NAMES",
    "AlgorithmConfig",
    "CORYConfig",
    "ExtensionConfig",
    "FaultConfig",
    "ModelConfig",
    "ProcessConfig",
    "RunConfig",
    "SamplingConfig",
    "TaskConfig",
    "TeamConfig",
    "refuse_unknown_names",
]
