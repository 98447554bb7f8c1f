"""Tables out of stored results: built, queried, sent on, and drawn as a report."""
