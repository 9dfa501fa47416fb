"""The engine without a clock: closed-form bounds and the exact max-plus recurrence of the pipeline."""
