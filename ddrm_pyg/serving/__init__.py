"""Out of training and into production: programs without Python, and a server."""
