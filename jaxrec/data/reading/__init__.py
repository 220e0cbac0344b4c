"""Reading: files of published logs, in any of their formats, become chunks of rows."""
