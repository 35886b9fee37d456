"""Estimators of how likely a position is looked at: one module a paper."""
