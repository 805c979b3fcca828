"""The `geosegsr` command: a thin skin over the library."""
