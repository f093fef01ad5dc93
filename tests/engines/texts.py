"""Texts that several tests speak."""

#: Two sentences with an abbreviation.
STORY = (
    "The lighthouse keeper counted the ships each night, and wrote their names into a book. "
    "Dr. Smith asked him once why he did it; he said that somebody should. "
)
