"""The leaf types that cross rooms: volumes, masks, measures, plans. They know no files, no network, no queue."""
