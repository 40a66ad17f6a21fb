"""Models: manifest, preprocessing, network, decoding of its outputs, batching over cameras."""
