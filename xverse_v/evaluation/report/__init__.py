"""Scores beside the model card's two tables: as text, Markdown, CSV and one HTML file with pictures."""

from .writing import FORMATS, render_text, write_report

__all__ = ["FORMATS", "render_text", "write_report"]
