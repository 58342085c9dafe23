"""What all of meterflow is about: readings, units, points, the site file, policy packs, errors.

Pure: imports nothing else of the project, touches no file, clock or socket at import.
"""
