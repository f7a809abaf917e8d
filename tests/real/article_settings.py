"""The example project with the destination of AWS's article on uploads from a web application:
JPEGs, public, by URLs that live 300 seconds.
"""

from typing import Any

from example_project.settings import S3DIRECT_UPLOADS
from tests.real.site_settings import *  # noqa: F403

ours: dict[str, Any] = S3DIRECT_UPLOADS
ours["URL_EXPIRES"] = 300
ours["DESTINATIONS"]["article"] = {
    "MAX_SIZE": 10 * 1024**2,
    "CONTENT_TYPES": ["image/jpeg"],
    "ACL": "public-read",
}
