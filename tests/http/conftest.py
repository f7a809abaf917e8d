"""What the tests of the HTTP contract share."""

from __future__ import annotations

from tests.conftest import App

ABSENT = object()
LARGE = 16 * 1024**2 + 1  # two parts
NO_SUCH_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def begin_in_parts(app: App) -> str:
    id: str = app.begin(size=LARGE, multipart=True).json()["id"]
    return id
