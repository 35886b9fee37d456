"""Protocols, ranking of the catalogue, and metrics with intervals."""
