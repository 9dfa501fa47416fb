"""Device files from measurements: of this machine, of a phone over adb, or of results people already have."""
