"""The media room: the only door through which an image enters, and the recognition of what knocks."""

from .door import ImageSource, open_base64, open_image, read_source
from .limits import DEFAULT_LIMITS, MediaLimits
from .remote import RemotePolicy

__all__ = [
    "DEFAULT_LIMITS",
    "ImageSource",
    "MediaLimits",
    "RemotePolicy",
    "open_base64",
    "open_image",
    "read_source",
]
