"""Merge methods: how the values of one tensor are combined."""

from alignmerge.merger.methods.base import MergeMethod, Parameter, Tile, View
from alignmerge.merger.methods.registry import METHODS, get

__all__ = ["METHODS", "MergeMethod", "Parameter", "Tile", "View", "get"]
