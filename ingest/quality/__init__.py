"""Quality: which readings somebody should look at, found from the stream. Beside the pipeline.

    track         one series: its pace, its usual step, what is far off both
    issues        one issue a kind, greenhouse and sensor, however many readings show it
    survey        batch after batch into issues, window after window out
    conditions    what the sensors of each greenhouse said last, when somebody asks

Pure: no clock, no logger, no await; `now` is an argument. `ingest.quality_watch` feeds it, and
`ingest.write.quality_log` stores what it finds.
"""

from ingest.quality.conditions import Condition, Conditions, Place, merged_conditions
from ingest.quality.findings import Directory, Rejected
from ingest.quality.issues import KINDS, Issue, Kind, OpenGap, Subject
from ingest.quality.survey import Survey
from ingest.quality.track import Limits

__all__ = [
    "KINDS",
    "Condition",
    "Conditions",
    "Directory",
    "Issue",
    "Kind",
    "Limits",
    "OpenGap",
    "Place",
    "Rejected",
    "Subject",
    "Survey",
    "merged_conditions",
]
