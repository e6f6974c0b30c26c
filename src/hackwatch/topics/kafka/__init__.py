"""Kafka topics (the extra `kafka`): kafka://HOST:PORT[,HOST:PORT]/TOPIC."""
