"""Quality checks of masks: pure functions over label maps, without DICOM."""
