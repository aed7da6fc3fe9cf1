"""The other way round: model classes through which other harnesses drive our models. No harness is a dependency."""
