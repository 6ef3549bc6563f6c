"""The short cut around Alembic goes by the same revision as Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from isocenter.platform.db import migrations
from isocenter.platform.db.open import NEWEST_REVISION


def test_the_newest_file_is_the_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == NEWEST_REVISION
