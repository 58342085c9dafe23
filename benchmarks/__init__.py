"""How fast it is, beside what else is there: `meterflow bench`."""
