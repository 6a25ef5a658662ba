"""Every setting of a run, its rules, and the presets. Loads no torch.

`CORYConfig` is one flat dataclass. Its fields stand by theme in `themes`, each with the facts
about it: range, effect on the result, who may change it (`fields.setting`).
"""

from cory.config.settings import (
    FIELD_NAMES,
    SETTINGS,
    THEMES,
    CORYConfig,
    refuse_unknown_names,
    unknown_setting,
)

__all__ = [
    "FIELD_NAMES",
    "SETTINGS",
    "THEMES",
    "CORYConfig",
    "refuse_unknown_names",
    "unknown_setting",
]
