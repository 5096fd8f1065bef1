"""The interaction graph, and draws from it."""
