"""Networks, their descriptions and their files."""
