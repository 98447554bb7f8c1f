"""The front door: login, pass-through, API, dashboard; admits series and watches local workers."""
