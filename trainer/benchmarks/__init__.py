"""Public benchmarks through the product's own path: train, bundle, engine. One file a suite."""
