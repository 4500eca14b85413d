"""Tools of the project itself, not of its users."""
