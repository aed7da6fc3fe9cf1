"""The tile inspector: what the model is really shown of an image, as numbers, as a PNG sheet and as a web page."""

from .page import tile_page
from .report import Inspection, TileReport, ViewReport, inspect_tiles, tile_report
from .sheet import contact_sheet

__all__ = [
    "Inspection",
    "TileReport",
    "ViewReport",
    "contact_sheet",
    "inspect_tiles",
    "tile_page",
    "tile_report",
]
