"""A model's field whose file is an upload: it claims the upload, and gives it up with the row.

Everything happens with the statement that writes the row, so ``save()``, ``bulk_create`` and
``bulk_update`` do the same, in one transaction: lock the row and read which file it has now, claim
the new upload, let the old file go, write.
"""

from .files import UploadFieldFile, UploadImageFieldFile
from .model_fields import UploadFileField, UploadImageField

__all__ = ["UploadFieldFile", "UploadFileField", "UploadImageField", "UploadImageFieldFile"]
