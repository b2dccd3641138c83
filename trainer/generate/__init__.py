"""Talking to a trained system: `system.py` plays, `command.py` prints. Nothing is imported here: a command line starts soon."""
