"""Composing the program: from settings to an open archive, and from an archive to a running server."""
