"""The log behind one small port: in memory, in one SQLite file; Kafka later."""
