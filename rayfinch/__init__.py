"""The door: the command line and its configuration. It wires the other packages together."""

__version__ = "0.1.0"
