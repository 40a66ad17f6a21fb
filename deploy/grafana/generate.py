"""Writes the dashboards: ``python -m deploy.grafana.generate`` (``--check`` only compares).

Run it in the repository's root. A test compares, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.camera import camera
from deploy.grafana.overview import overview
from deploy.grafana.pipeline_health import pipeline_health

FOLDER = Path(__file__).parent / "dashboards"


def dashboards() -> dict[str, str]:
    """File name -> its text."""
    made = {"overview": overview(), "camera": camera(), "pipeline-health": pipeline_health()}
    return {f"{name}.json": _text(board.build()) for name, board in made.items()}


def main() -> int:
    """0 when everything is written, or is as it should be."""
    wanted = dashboards()
    if "--check" in sys.argv[1:]:
        differ = [name for name, text in wanted.items() if _read(FOLDER / name) != text]
        for name in differ:
            print(f"{name} is not what the code says: python -m deploy.grafana.generate")
        return bool(differ)
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def _text(board: object) -> str:
    told = json.loads(json.dumps(board, cls=JSONEncoder))
    for number, panel in enumerate(told["panels"], 1):
        panel["id"] = number  # without, Grafana gives numbers of its own at each start, and links to panels break
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
