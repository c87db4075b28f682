"""From Kafka to Kafka: decode, enrich, archive, publish; and everything that is kept."""
