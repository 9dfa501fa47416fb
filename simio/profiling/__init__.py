"""Run codecs over a model's weights: ``profiler.profile`` measures, ``profile_file.save`` and ``load`` keep it."""
