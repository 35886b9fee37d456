"""Linen blocks that models share."""
