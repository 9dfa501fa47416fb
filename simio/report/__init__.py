"""Pages for people, rendered from saved records and never by simulating again."""
