"""The media room: the only door through which an image enters, and the recognition of what knocks."""

from .door import DEFAULT_LIMITS, ImageSource, MediaLimits, open_image

__all__ = ["DEFAULT_LIMITS", "ImageSource", "MediaLimits", "open_image"]
