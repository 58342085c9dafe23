"""Grafana's data source, dashboards and alert rules for meterflow's results in InfluxDB, made from code."""
