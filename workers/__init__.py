"""What computes: preprocessing, the network, bundles, batching, the Ray classifier."""

import os

# Read when ONNX Runtime is first imported: 1.31 has its maker's telemetry built in, and leaves a file of it behind.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
