"""What computes: preprocessing, the network, bundles, batching, the Ray classifier."""
