"""sessiontape: a market-data session platform on Kafka."""
