"""The figures of the report, of comparisons and of the amplification tests; all drawn with one style."""
