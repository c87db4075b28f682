"""What the archive says when it cannot do what was asked."""

from __future__ import annotations


class ArchiveError(RuntimeError):
    """The archive is not there, was asked for something it cannot know, or could not be written."""
