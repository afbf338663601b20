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
    host text,
    process_id integer,
    claimed_at timestamptz,
    committed_at timestamptz,
    constraint ingest_sessions_pkey primary key (client_id),
    constraint ingest_sessions_pending_check check (octet_length(pending) % 6 = 0)
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
    rejected_count integer not null,
    missing text[],
    constraint ingest_dead_letters_pkey primary key (dead_letter_id)
);

create index ingest_dead_letters_received_at_idx on iot.ingest_dead_letters (received_at);
create index ingest_dead_letters_reasons_idx on iot.ingest_dead_letters using gin (reasons);
-- Cut, since a topic may be 65 535 bytes long and an index entry 2 704 at most.
create index ingest_dead_letters_topic_received_at_idx on iot.ingest_dead_letters (left(topic, 200), received_at);
-- What a worker asks when the catalog has changed: which names are missing, of late; which letters lack these names.
create index ingest_dead_letters_missing_recorded_at_idx on iot.ingest_dead_letters (recorded_at)
    where missing is not null;
create index ingest_dead_letters_missing_idx on iot.ingest_dead_letters using gin (missing)
    where missing is not null;

comment on table iot.ingest_dead_letters is
    'Messages that lost at least one field, one row each, written in the transaction of their good rows.';
comment on column iot.ingest_dead_letters.dead_letter_id is 'Key.';
comment on column iot.ingest_dead_letters.received_at is
    'Receipt time of the message; replay takes it as the time of its readings.';
comment on column iot.ingest_dead_letters.recorded_at is
    'When this row was last written: with its batch, or by a replay that shortened it.';
comment on column iot.ingest_dead_letters.client_id is 'MQTT session that received it.';
comment on column iot.ingest_dead_letters.topic is 'Topic it was published to.';
comment on column iot.ingest_dead_letters.payload is
    'The payload as received; of a message above the size limit the first 4 KiB.';
comment on column iot.ingest_dead_letters.payload_bytes is 'Length of the whole payload, in bytes.';
comment on column iot.ingest_dead_letters.payload_sha256 is
    'SHA-256 of the whole payload; only where payload is not whole.';
comment on column iot.ingest_dead_letters.tenant_id is 'metadata.tenants.id, where the topic told it.';
comment on column iot.ingest_dead_letters.rejected is
    'Array of {"field", "reason", "detail"}, one a rejected reading; field is "" where the message was rejected whole.';
comment on column iot.ingest_dead_letters.reasons is 'The distinct reasons in rejected, for searching.';
comment on column iot.ingest_dead_letters.rejected_count is 'Readings rejected: the length of rejected.';
comment on column iot.ingest_dead_letters.missing is
    'Names that the catalog lacked, each "kind owner name" (owner: id of a tenant or greenhouse, or *), 100 at most; '
    'NULL where no name was. Once the catalog has one, a worker replays the message.';

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
    count(*) as readings,
    count(distinct d.dead_letter_id) as messages,
    min(d.received_at) as first_received_at,
    max(d.received_at) as last_received_at
from iot.ingest_dead_letters as d
cross join lateral (
    select e.entry ->> 'reason' as reason
    from jsonb_array_elements(d.rejected) as e (entry)
) as r
group by r.reason;

comment on view iot.v_ingest_dead_letters_by_reason is 'Dead letters summed up: one row a reject reason.';
comment on column iot.v_ingest_dead_letters_by_reason.reason is 'Reject reason.';
comment on column iot.v_ingest_dead_letters_by_reason.readings is
    'Readings rejected for it; a message rejected whole counts once.';
comment on column iot.v_ingest_dead_letters_by_reason.messages is 'Messages with at least one of them.';
comment on column iot.v_ingest_dead_letters_by_reason.first_received_at is 'Receipt time of the earliest.';
comment on column iot.v_ingest_dead_letters_by_reason.last_received_at is 'Receipt time of the latest.';

create view iot.v_ingest_missing_names as
select
    split_part(m.missing, ' ', 1) as kind,
    nullif(split_part(m.missing, ' ', 2), '*') as owner_id,
    regexp_replace(m.missing, '^\S+ \S+ ', '') as name,
    count(*) as messages,
    min(d.received_at) as first_received_at,
    max(d.received_at) as last_received_at
from iot.ingest_dead_letters as d
cross join lateral unnest(d.missing) as m (missing)
where d.missing is not null
group by m.missing;

comment on view iot.v_ingest_missing_names is
    'What to register (ingest catalog add): the names that messages waiting in dead letters lack, one row a name.';
comment on column iot.v_ingest_missing_names.kind is
    'tenant, greenhouse, greenhouse_number (in a label), only_greenhouse (the tenant needs exactly one that is active), '
    'sensor_type, unit, label or sensor.';
comment on column iot.v_ingest_missing_names.owner_id is
    'Id of the tenant or greenhouse in which it is looked for; NULL: it belongs to nobody.';
comment on column iot.v_ingest_missing_names.name is 'The name, in the form in which names of its kind are compared.';
comment on column iot.v_ingest_missing_names.messages is 'Dead letters that lack it.';
comment on column iot.v_ingest_missing_names.first_received_at is 'Receipt time of the earliest.';
comment on column iot.v_ingest_missing_names.last_received_at is 'Receipt time of the latest.';

create view iot.v_ingest_sessions as
select
    s.client_id,
    s.epoch,
    octet_length(s.pending) / 6 as pending_entries,
    s.filters,
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
comment on column iot.v_ingest_sessions.host is 'Where the process that claimed it runs.';
comment on column iot.v_ingest_sessions.process_id is 'Process id of that process, on that host.';
comment on column iot.v_ingest_sessions.claimed_at is 'When the present epoch began.';
comment on column iot.v_ingest_sessions.committed_at is 'When the last batch was committed; NULL before the first.';
comment on column iot.v_ingest_sessions.age is 'Time since then.';
