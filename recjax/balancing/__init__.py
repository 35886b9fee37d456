"""Losses of several tasks, or their gradients, made one."""
