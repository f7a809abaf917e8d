"""A model's field for uploads. It claims an upload for a row, and releases it with the row.

The work is done when the statement that writes the row is sent. So ``save()``, ``bulk_create()``
and ``bulk_update()`` all do the same. In one transaction they lock the row and read which file it
has now, claim the new upload, release the old one, and write the row.
"""

from .files import UploadFieldFile, UploadImageFieldFile
from .model_fields import UploadFileField, UploadImageField

__all__ = ["UploadFieldFile", "UploadFileField", "UploadImageField", "UploadImageFieldFile"]
