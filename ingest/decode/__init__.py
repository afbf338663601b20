"""Second stage: one message's bytes become readings by name; pure, and total over any input.

    topic   -> routes    which tenant, greenhouse, sensor type and payload format (or: ignored)
    payload -> payload   JSON, leniently where a gateway's number would cost the whole message
            -> readings  objects, arrays, batch envelopes
            -> labels    flat maps label -> value
            -> values    each number and each time

No clock, no logger, no await; it knows no catalog: names are handed on as the gateway wrote them.
"""

from ingest.decode.readings import Decoder
from ingest.decode.routes import IGNORED, Ignored, Routes

__all__ = ["IGNORED", "Decoder", "Ignored", "Routes"]
