"""Scorers, and the items of the highest scores."""
