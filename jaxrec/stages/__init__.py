"""One function per command: reads what earlier stages wrote, does one stage's work, writes its folder; run again, it picks up where it
stopped."""
