"""What-if at scale: axes over scenarios and device numbers, evaluated in frames that share a plan, kept as Parquet."""
