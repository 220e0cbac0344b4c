"""One function per command: it reads what earlier stages wrote and writes its own folder; run again, it picks up where it stopped."""
