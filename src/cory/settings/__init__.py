"""The themed parts of `cory.config.CORYConfig`: each setting, its type, default and meaning."""

from cory.settings.algorithm import AlgorithmConfig
from cory.settings.extensions import ExtensionConfig
from cory.settings.faults import FaultConfig
from cory.settings.model import ModelConfig
from cory.settings.processes import ProcessConfig
from cory.settings.run import RunConfig
from cory.settings.sampling import SamplingConfig
from cory.settings.task import TaskConfig
from cory.settings.team import TeamConfig

__all__ = [
    "AlgorithmConfig",
    "ExtensionConfig",
    "FaultConfig",
    "ModelConfig",
    "ProcessConfig",
    "RunConfig",
    "SamplingConfig",
    "TaskConfig",
    "TeamConfig",
]
