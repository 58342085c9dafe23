"""Bytes into durable readings: the MQTT endpoint, the decoders and the checks by form."""
