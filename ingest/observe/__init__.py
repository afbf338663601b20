"""What the worker shows of itself: logs on stderr, metrics and health over HTTP.

Nothing here knows a stage of the pipeline; `worker` hands in numbers and asks for lines.
"""
