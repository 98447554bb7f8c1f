"""The front door: login, pass-through, API and dashboard. Also admits series and watches local workers."""
