"""Cache policies: weight residency without a clock."""
