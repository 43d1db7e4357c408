"""The commands: one file each, that parses arguments, calls the library and prints."""
