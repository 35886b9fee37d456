"""Ranking metrics as pure functions."""
