"""Preview pictures as Secondary Capture images."""
