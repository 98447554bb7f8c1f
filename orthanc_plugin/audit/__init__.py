"""Who did what, and when: a log that only grows, and that shows when somebody changed it."""
