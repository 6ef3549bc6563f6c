"""Settings: one table (:mod:`.model`), laid from flags, environment, file and defaults (:mod:`.load`)."""

from isocenter.platform.settings.load import InvalidSettings, LoadedSettings, Origin, load_settings
from isocenter.platform.settings.model import Settings

__all__ = ["InvalidSettings", "LoadedSettings", "Origin", "Settings", "load_settings"]
