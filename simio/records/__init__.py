"""The nouns of simio: frozen records that pass between rooms."""
