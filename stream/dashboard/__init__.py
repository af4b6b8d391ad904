"""The page to look at: recent alerts from the output topics, and how the stream does, over HTTP."""
