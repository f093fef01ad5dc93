"""Texts that several tests speak."""

#: Two sentences with an abbreviation.
STORY = (
    "The lighthouse keeper counted the ships each night, and wrote their names into a book. "
    "Dr. Smith asked him once why he did it; he said that somebody should. "
)

#: Each is recognised among the others.
SENTENCES = (
    "Go forward ten meters.",
    "The quick brown fox jumps over the lazy dog.",
    "Please turn on the light in the kitchen.",
    "We are ready to publish the next part of the story.",
    "One two three four five six seven eight nine ten.",
    "The weather is nice today.",
    "Open the door and close the window.",
    "Music and speech are on their way to you.",
    "My brother wrote a letter to the president.",
    "Seven ships sailed across the northern sea.",
)
