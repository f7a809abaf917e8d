"""The example project, where one may have little."""

from tests.real.site_settings import *  # noqa: F403
from tests.real.site_settings import S3DIRECT_UPLOADS as OURS

S3DIRECT_UPLOADS = {
    "DESTINATIONS": {
        **OURS["DESTINATIONS"],
        "photos": {
            "MAX_SIZE": 1024**3,
            "CONTENT_TYPES": ["image/*"],
            "MAX_PENDING": 1,
            "MAX_TOTAL_SIZE": 1024,
        },
    },
}
