-- Purpose: what the worker keeps so that a message is delivered once and none is lost sight of: the delivery
--          journal, the dead letters, the ledger's counters, notes of late rows; and the operator's views on them.
-- Locks:   none: new tables only.
-- Time:    under 1 s.
-- Undo:    U15__create_delivery_tables.sql; it refuses while there are dead letters or an open session.

create table iot.ingest_sessions (
    client_id text not null,
    epoch bigint not null default 0,
    owner uuid,
    batch_id uuid,
    pending bytea not null default ''::bytea,
    filters text[] not null default '{}',
    unfinished_starts integer not null default 0,
    suspect bytea,
    poison bytea[] not null default '{}',
    poison_at timestamptz,
    host text,
    process_id integer,
    claimed_at timestamptz,
    committed_at timestamptz,
    constraint ingest_sessions_pkey primary key (client_id),
    constraint ingest_sessions_pending_check check (octet_length(pending) % 6 = 0),
    constraint ingest_sessions_suspect_check check (octet_length(suspect) = 32)
);

comment on table iot.ingest_sessions is
    'The delivery journal: one row an MQTT session, updated as the last thing in the transaction of each batch.';
comment on column iot.ingest_sessions.client_id is 'MQTT client id.';
comment on column iot.ingest_sessions.epoch is
    'Counts the claims of this session; a writer whose epoch is not this one has lost it and stops.';
comment on column iot.ingest_sessions.owner is
    'The process that made the last claim, by a number of its own: tells a claim whose answer was lost from a stranger''s.';
comment on column iot.ingest_sessions.batch_id is 'Last committed batch; settles a COMMIT whose outcome is unknown.';
comment on column iot.ingest_sessions.pending is
    'Committed messages the broker has not proved to know as acknowledged, oldest first; 6 bytes an entry: packet id '
    '(uint16), CRC-32 of topic and payload (uint32), big-endian.';
comment on column iot.ingest_sessions.filters is 'Topic filters the session is subscribed to.';
comment on column iot.ingest_sessions.unfinished_starts is
    'Processes in a row that claimed the session and, so far or until they ended without taking leave, committed nothing. '
    'Three that ended so, and the next takes its messages in one by one.';
comment on column iot.ingest_sessions.suspect is
    'SHA-256 of topic and payload of the message that was taken in alone and is not committed: if the process ends over '
    'it, the next claim moves it to poison.';
comment on column iot.ingest_sessions.poison is
    'SHA-256 of messages that ended a process, oldest first, 100 at most: such a message is dead-lettered unread, for a '
    'day from poison_at on.';
comment on column iot.ingest_sessions.poison_at is 'When the newest entry of poison was added.';
comment on column iot.ingest_sessions.host is 'Where the process that claimed it runs.';
comment on column iot.ingest_sessions.process_id is 'Process id of that process, on that host.';
comment on column iot.ingest_sessions.claimed_at is 'When the present epoch began.';
comment on column iot.ingest_sessions.committed_at is 'When the last batch was committed.';

create table iot.ingest_dead_letters (
    dead_letter_id bigint generated always as identity,
    received_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    client_id text not null,
    topic text not null,
    payload bytea not null,
    payload_bytes integer not null,
    payload_sha256 bytea,
    tenant_id uuid,
    rejected jsonb not null,
    reasons text[] not null,
    reason_counts integer[],
    rejected_count integer not null,
    constraint ingest_dead_letters_pkey primary key (dead_letter_id),
    constraint ingest_dead_letters_reason_counts_check check (cardinality(reason_counts) = cardinality(reasons))
);

create index ingest_dead_letters_received_at_idx on iot.ingest_dead_letters (received_at);
create index ingest_dead_letters_reasons_idx on iot.ingest_dead_letters using gin (reasons);
-- Cut, since a topic may be 65 535 bytes long and an index entry 2 704 at most.
create index ingest_dead_letters_topic_received_at_idx on iot.ingest_dead_letters (left(topic, 200), received_at);

comment on table iot.ingest_dead_letters is
    'Messages that lost at least one field, one row each, written in the transaction of their good rows.';
comment on column iot.ingest_dead_letters.dead_letter_id is 'Key.';
comment on column iot.ingest_dead_letters.received_at is
    'Receipt time of the message; replay takes it as the time of its readings.';
comment on column iot.ingest_dead_letters.recorded_at is 'When this row was written.';
comment on column iot.ingest_dead_letters.client_id is 'MQTT session that received it.';
comment on column iot.ingest_dead_letters.topic is 'Topic it was published to.';
comment on column iot.ingest_dead_letters.payload is
    'The payload as received; of a message above the size limit the first 4 KiB.';
comment on column iot.ingest_dead_letters.payload_bytes is 'Length of the whole payload, in bytes.';
comment on column iot.ingest_dead_letters.payload_sha256 is
    'SHA-256 of the whole payload; only where payload is not whole.';
comment on column iot.ingest_dead_letters.tenant_id is 'metadata.tenants.id, where the topic told it.';
comment on column iot.ingest_dead_letters.rejected is
    'Array of {"field", "reason", "detail"}, one a rejected reading, of a message with many the first 100; field is empty '
    'where the message was rejected whole.';
comment on column iot.ingest_dead_letters.reasons is
    'The distinct reasons of all its rejected readings, for searching.';
comment on column iot.ingest_dead_letters.reason_counts is
    'Readings rejected for each of reasons, in their order; only where rejected does not list them all.';
comment on column iot.ingest_dead_letters.rejected_count is
    'Readings rejected, all of them; more than the length of rejected where that is cut off.';

create table iot.ingest_dead_letter_overflow (
    client_id text not null,
    hour timestamptz not null,
    topic text not null,
    reason text not null,
    messages bigint not null,
    readings bigint not null,
    constraint ingest_dead_letter_overflow_pkey primary key (client_id, hour, topic, reason)
);

comment on table iot.ingest_dead_letter_overflow is
    'Dead letters that were only counted, because their topic or its tenant had used up what is kept in an hour '
    '(write.dead_letters_per_topic_per_hour). Written with the batch; rejected readings = those of the dead letters + these. '
    'The worker removes hours older than 30 days.';
comment on column iot.ingest_dead_letter_overflow.client_id is 'MQTT session that received them.';
comment on column iot.ingest_dead_letter_overflow.hour is 'Start of the hour of receipt, UTC.';
comment on column iot.ingest_dead_letter_overflow.topic is
    'Topic, cut to 200 characters; # (no topic can be called that) for all the catalog has no place for, and for those '
    'beyond the first thousand of an hour.';
comment on column iot.ingest_dead_letter_overflow.reason is 'Reject reason.';
comment on column iot.ingest_dead_letter_overflow.messages is
    'Messages with at least one reading rejected for it and not kept; one with several reasons counts under each.';
comment on column iot.ingest_dead_letter_overflow.readings is 'Readings rejected for it and not kept.';

create table iot.ingest_counters (
    client_id text not null,
    counter text not null,
    value bigint not null,
    updated_at timestamptz not null default now(),
    constraint ingest_counters_pkey primary key (client_id, counter)
);

comment on table iot.ingest_counters is
    'The two ledgers since the session was made. Messages: received = committed + skipped + ignored + in flight. '
    'Readings: decoded = written + duplicate + rejected + null.';
comment on column iot.ingest_counters.client_id is 'MQTT client id.';
comment on column iot.ingest_counters.counter is
    'received, committed, skipped, ignored (messages); decoded, written, duplicate, rejected, null (readings).';
comment on column iot.ingest_counters.value is 'Messages or readings, counted since the row was made.';
comment on column iot.ingest_counters.updated_at is 'When value was last raised.';

create table iot.ingest_late_buckets (
    bucket timestamptz not null,
    greenhouse_id uuid not null,
    sensor_type_id smallint not null,
    noted_at timestamptz not null default now(),
    rows bigint not null,
    constraint ingest_late_buckets_pkey primary key (bucket, greenhouse_id, sensor_type_id)
);

comment on table iot.ingest_late_buckets is
    'Hours that received rows after the aggregates had passed them: written with the rows by who writes rows older than '
    'two days (the refresh policies look back three); iot.recompute_late_buckets computes them again and removes the note.';
comment on column iot.ingest_late_buckets.bucket is 'Start of the hour.';
comment on column iot.ingest_late_buckets.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.ingest_late_buckets.sensor_type_id is 'iot.sensor_types.id.';
comment on column iot.ingest_late_buckets.noted_at is
    'When the latest of its late rows arrived: now() of the transaction that wrote them.';
comment on column iot.ingest_late_buckets.rows is 'Late rows since the hour was last computed.';

create view iot.v_ingest_dead_letters_by_reason as
select
    r.reason,
    sum(r.readings) as readings,
    count(distinct d.dead_letter_id) as messages,
    min(d.received_at) as first_received_at,
    max(d.received_at) as last_received_at
from iot.ingest_dead_letters as d
cross join lateral (
    select e.entry ->> 'reason' as reason, 1 as readings
    from jsonb_array_elements(d.rejected) as e (entry)
    where d.reason_counts is null
    union all
    select c.reason, c.readings
    from unnest(d.reasons, d.reason_counts) as c (reason, readings)
    where d.reason_counts is not null
) as r
group by r.reason;

comment on view iot.v_ingest_dead_letters_by_reason is
    'Dead letters summed up: one row a reject reason. Those only counted are in iot.ingest_dead_letter_overflow.';
comment on column iot.v_ingest_dead_letters_by_reason.reason is 'Reject reason.';
comment on column iot.v_ingest_dead_letters_by_reason.readings is
    'Readings rejected for it; a message rejected whole counts once.';
comment on column iot.v_ingest_dead_letters_by_reason.messages is 'Messages with at least one of them.';
comment on column iot.v_ingest_dead_letters_by_reason.first_received_at is 'Receipt time of the earliest.';
comment on column iot.v_ingest_dead_letters_by_reason.last_received_at is 'Receipt time of the latest.';

create view iot.v_ingest_sessions as
select
    s.client_id,
    s.epoch,
    octet_length(s.pending) / 6 as pending_entries,
    s.filters,
    s.unfinished_starts,
    s.host,
    s.process_id,
    s.claimed_at,
    s.committed_at,
    now() - s.committed_at as age
from iot.ingest_sessions as s;

comment on view iot.v_ingest_sessions is 'The delivery journal for people.';
comment on column iot.v_ingest_sessions.client_id is 'MQTT client id.';
comment on column iot.v_ingest_sessions.epoch is 'How often the session was claimed.';
comment on column iot.v_ingest_sessions.pending_entries is
    'Committed messages whose acknowledgement the broker has not proved to know.';
comment on column iot.v_ingest_sessions.filters is 'Topic filters the session is subscribed to.';
comment on column iot.v_ingest_sessions.unfinished_starts is
    'Processes in a row that claimed the session and committed nothing; three that ended so, and the next is careful.';
comment on column iot.v_ingest_sessions.host is 'Where the process that claimed it runs.';
comment on column iot.v_ingest_sessions.process_id is 'Process id of that process, on that host.';
comment on column iot.v_ingest_sessions.claimed_at is 'When the present epoch began.';
comment on column iot.v_ingest_sessions.committed_at is 'When the last batch was committed; NULL before the first.';
comment on column iot.v_ingest_sessions.age is 'Time since then.';
