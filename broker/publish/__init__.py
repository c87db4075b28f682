"""Enriched packets out, in one Kafka transaction a batch."""
