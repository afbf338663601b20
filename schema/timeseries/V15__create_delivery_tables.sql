-- Purpose: what the worker keeps so that a message is delivered once and none is lost sight of: the delivery
--          journal, the dead letters, the ledgers by session, gateway and hour, notes of late rows; and the operator's
--          views on them.
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
    share_group text,
    clock_slot smallint,
    unfinished_starts integer not null default 0,
    suspect bytea,
    poison bytea not null default ''::bytea,
    poison_at timestamptz,
    host text,
    process_id integer,
    claimed_at timestamptz,
    committed_at timestamptz,
    constraint ingest_sessions_pkey primary key (client_id),
    constraint ingest_sessions_pending_check check (octet_length(pending) % 8 = 0),
    constraint ingest_sessions_suspect_check check (octet_length(suspect) = 32),
    constraint ingest_sessions_poison_check check (octet_length(poison) % 32 = 0),
    constraint ingest_sessions_clock_slot_check check (
        case when share_group is null then clock_slot is null else coalesce(clock_slot, -1) between 0 and 15 end
    ),
    constraint ingest_sessions_share_group_clock_slot_key unique (share_group, clock_slot)
);

comment on table iot.ingest_sessions is
    'The delivery journal: one row an MQTT session, updated as the last thing in the transaction of each batch.';
comment on column iot.ingest_sessions.client_id is 'MQTT client id.';
comment on column iot.ingest_sessions.epoch is
    'Raised by each claim of the session; a writer whose epoch is not this one has lost it and stops. It begins '
    'at the clock (µs since 1970), not at 1: the row of a session that has ended is deleted, and may be made again.';
comment on column iot.ingest_sessions.owner is
    'The process that made the last claim, by a number of its own: tells a claim whose answer was lost from a stranger''s.';
comment on column iot.ingest_sessions.batch_id is 'Last committed batch; settles a COMMIT whose outcome is unknown.';
comment on column iot.ingest_sessions.pending is
    'Committed messages the broker has not proved to know as acknowledged, oldest first; 8 bytes an entry: packet id '
    '(uint32), CRC-32 of topic and payload (uint32), big-endian.';
comment on column iot.ingest_sessions.filters is 'Topic filters the session is subscribed to.';
comment on column iot.ingest_sessions.share_group is
    'Share group of its subscriptions ($share/group/filter), whose sessions receive each message once among them; NULL: '
    'it is subscribed by itself. A session of a group without a process is adopted: emptied and ended by another.';
comment on column iot.ingest_sessions.clock_slot is
    'Its number in the group: receipt times, in µs, are this number modulo 16, so that two processes never give two '
    'readings one time. 16 sessions are the most a group can have.';
comment on column iot.ingest_sessions.unfinished_starts is
    'Processes in a row that claimed the session and, so far or until they ended without taking leave, committed nothing. '
    'Three that ended so, and the next takes its messages in one by one.';
comment on column iot.ingest_sessions.suspect is
    'SHA-256 of topic and payload of the message that was taken in alone and is not committed: if the process ends over '
    'it, the next claim moves it to poison.';
comment on column iot.ingest_sessions.poison is
    'SHA-256 of topic and payload of messages that ended a process, oldest first, 32 bytes each, 100 at most: such a '
    'message is dead-lettered unread, for a day from poison_at on.';
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
    gateway text,
    rejected jsonb not null,
    reasons text[] not null,
    reason_counts jsonb,
    rejected_count integer not null,
    missing text[],
    replayed_at timestamptz,
    constraint ingest_dead_letters_pkey primary key (dead_letter_id)
);

create index ingest_dead_letters_received_at_idx on iot.ingest_dead_letters (received_at);
create index ingest_dead_letters_reasons_idx on iot.ingest_dead_letters using gin (reasons);
-- Cut, since a topic may be 65 535 bytes long and an index entry 2 704 at most.
create index ingest_dead_letters_topic_received_at_idx on iot.ingest_dead_letters (left(topic, 200), received_at);
-- What a worker asks when the catalog has changed: which names are missing, of late; which letters lack these names.
create index ingest_dead_letters_missing_since_idx on iot.ingest_dead_letters (coalesce(replayed_at, recorded_at))
    where missing is not null;
create index ingest_dead_letters_missing_idx on iot.ingest_dead_letters using gin (missing)
    where missing is not null;

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
comment on column iot.ingest_dead_letters.gateway is 'Who published it, as in iot.ingest_gateway_hours.';
comment on column iot.ingest_dead_letters.rejected is
    'Array of {"field", "reason", "detail"}, one a rejected reading, of a message with many the first 100; field is empty '
    'where the message was rejected whole.';
comment on column iot.ingest_dead_letters.reasons is
    'The distinct reasons of all its rejected readings, for searching.';
comment on column iot.ingest_dead_letters.reason_counts is
    'Object of reason -> readings rejected for it; only where rejected does not list them all.';
comment on column iot.ingest_dead_letters.rejected_count is
    'Readings rejected, all of them; more than the length of rejected where that is cut off.';
comment on column iot.ingest_dead_letters.replayed_at is
    'When a replay last changed what is rejected; NULL: as it was at receipt.';
comment on column iot.ingest_dead_letters.missing is
    'Names that the catalog lacked, each "kind owner name" (owner: id of a tenant or greenhouse, or *), 100 at most; '
    'NULL where no name was. Once the catalog has one, a worker replays the message.';

create table iot.ingest_dead_letter_overflow (
    client_id text not null,
    hour timestamptz not null,
    gateway text not null,
    tenant_id uuid,
    topic text not null,
    reason text not null,
    messages bigint not null,
    readings bigint not null,
    constraint ingest_dead_letter_overflow_pkey primary key (client_id, hour, gateway, topic, reason)
);

comment on table iot.ingest_dead_letter_overflow is
    'Dead letters that were only counted, because their topic or its tenant had used up what is kept in an hour '
    '(write.dead_letters_per_topic_per_hour). Written with the batch; rejected readings = those of the dead letters + these. '
    'The worker removes hours older than 30 days.';
comment on column iot.ingest_dead_letter_overflow.client_id is 'MQTT session that received them.';
comment on column iot.ingest_dead_letter_overflow.hour is 'Start of the hour of receipt, UTC.';
comment on column iot.ingest_dead_letter_overflow.gateway is 'As in iot.ingest_gateway_hours.';
comment on column iot.ingest_dead_letter_overflow.tenant_id is 'metadata.tenants.id, where the topic told it.';
comment on column iot.ingest_dead_letter_overflow.topic is
    'Topic, cut to 200 characters; # (no topic can be called that) for all the catalog has no place for, and for those of '
    'a tenant beyond the first thousand of an hour.';
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

-- A row is written anew by each batch that has a message of its gateway: half of a page is left free, so that the new
-- version finds place beside the old one and no index is touched. Measured, 1 000 gateways in each of 100 batches: all
-- updates in place, 624 kB and 5 ms of the server's time a batch; without, 13 MB and 8 ms.
create table iot.ingest_gateway_hours (
    hour timestamptz not null,
    client_id text not null,
    gateway text not null,
    tenant_id uuid,
    greenhouse_id uuid,
    received bigint not null,
    committed bigint not null,
    skipped bigint not null,
    ignored bigint not null,
    decoded bigint not null,
    written bigint not null,
    duplicate bigint not null,
    rejected bigint not null,
    nulls bigint not null,
    clock_future bigint not null,
    clock_ancient bigint not null,
    clock_unset bigint not null,
    least_lag_s double precision,
    constraint ingest_gateway_hours_pkey primary key (hour, client_id, gateway)
) with (fillfactor = 50);

comment on table iot.ingest_gateway_hours is
    'Both ledgers by gateway and hour of receipt, moved in the transaction of each batch. Messages: received = committed + '
    'skipped + ignored. Readings: decoded = written + duplicate + rejected + nulls. Summed up over all hours they are '
    'iot.ingest_counters; iot.fold_gateway_hours keeps it so.';
comment on column iot.ingest_gateway_hours.hour is
    'Start of the hour of receipt; -infinity holds the sums of hours that were folded away.';
comment on column iot.ingest_gateway_hours.client_id is 'MQTT session that received it.';
comment on column iot.ingest_gateway_hours.gateway is
    'The topic as far as it says the place, in the catalog''s spelling (greenhouse/A1, GREENHOUSE/SARA/01); (unplaced) for '
    'all messages whose place the catalog does not know.';
comment on column iot.ingest_gateway_hours.tenant_id is
    'metadata.tenants.id of its place, as last known in that hour; NULL for (unplaced).';
comment on column iot.ingest_gateway_hours.greenhouse_id is
    'metadata.greenhouses.id of its place, likewise; NULL where each label says which.';
comment on column iot.ingest_gateway_hours.received is 'Messages taken from the broker and settled since.';
comment on column iot.ingest_gateway_hours.committed is 'Messages whose rows or dead letter were committed.';
comment on column iot.ingest_gateway_hours.skipped is 'Messages sent again that the delivery journal knew.';
comment on column iot.ingest_gateway_hours.ignored is
    'Messages acknowledged and not read: ignored topics, retained, empty.';
comment on column iot.ingest_gateway_hours.decoded is 'Readings found in its messages.';
comment on column iot.ingest_gateway_hours.written is 'Readings that became a row.';
comment on column iot.ingest_gateway_hours.duplicate is 'Readings that were stored already, with the same value.';
comment on column iot.ingest_gateway_hours.rejected is 'Readings that became part of a dead letter.';
comment on column iot.ingest_gateway_hours.nulls is 'Readings whose value was null.';
comment on column iot.ingest_gateway_hours.clock_future is
    'Readings rejected as bad_timestamp for a time after decode.max_future_s.';
comment on column iot.ingest_gateway_hours.clock_ancient is
    'Readings rejected as bad_timestamp for a time before decode.max_age_s.';
comment on column iot.ingest_gateway_hours.clock_unset is
    'Readings rejected as bad_timestamp for a time in 1970, where a clock begins that was never set.';
comment on column iot.ingest_gateway_hours.least_lag_s is
    'Receipt time minus reading time in seconds, the least of what was sent with a time: of each batch the gateway''s newest '
    'message, and what was rejected for the future. Below 0 its clock is ahead by that much; far above 0 the whole hour its '
    'clock is behind, or it sent nothing but old readings. NULL where nothing had a time.';

create table iot.ingest_written_hours (
    hour timestamptz not null,
    greenhouse_id uuid not null,
    tenant_id uuid not null,
    client_id text not null,
    rows bigint not null,
    constraint ingest_written_hours_pkey primary key (hour, greenhouse_id, tenant_id, client_id)
) with (fillfactor = 50);

comment on table iot.ingest_written_hours is
    'Rows of iot.sensor_readings that workers and replays wrote, by the hour of the readings'' own times: what a count of '
    'the table is compared with, exactly, by `ingest reconcile`. Moved in the transaction of the rows.';
comment on column iot.ingest_written_hours.hour is 'Start of the hour of the readings'' times.';
comment on column iot.ingest_written_hours.greenhouse_id is 'metadata.greenhouses.id.';
comment on column iot.ingest_written_hours.tenant_id is 'metadata.tenants.id, as in the rows.';
comment on column iot.ingest_written_hours.client_id is
    'MQTT session whose worker wrote them; (replay) for what came out of dead letters.';
comment on column iot.ingest_written_hours.rows is 'Rows written; a row replaced by another value counts again.';

create or replace function iot.fold_ledger_hours_before(before timestamptz)
returns bigint
language sql
as $$
    with forgotten as (
        delete from iot.ingest_written_hours as h
        where h.hour < before
    ), folded as (
        delete from iot.ingest_gateway_hours as h
        where h.hour < before
            and h.hour > '-infinity'
        returning h.*
    ), added as (
        insert into iot.ingest_gateway_hours as total (
            hour, client_id, gateway, tenant_id, greenhouse_id, received, committed, skipped, ignored, decoded,
            written, duplicate, rejected, nulls, clock_future, clock_ancient, clock_unset
        )
        select
            '-infinity', f.client_id, f.gateway, (array_agg(f.tenant_id order by f.hour desc))[1],
            (array_agg(f.greenhouse_id order by f.hour desc))[1], sum(f.received), sum(f.committed), sum(f.skipped),
            sum(f.ignored), sum(f.decoded), sum(f.written), sum(f.duplicate), sum(f.rejected), sum(f.nulls),
            sum(f.clock_future), sum(f.clock_ancient), sum(f.clock_unset)
        from folded as f
        group by f.client_id, f.gateway
        on conflict (hour, client_id, gateway) do update
            set tenant_id = excluded.tenant_id,
                greenhouse_id = excluded.greenhouse_id,
                received = total.received + excluded.received,
                committed = total.committed + excluded.committed,
                skipped = total.skipped + excluded.skipped,
                ignored = total.ignored + excluded.ignored,
                decoded = total.decoded + excluded.decoded,
                written = total.written + excluded.written,
                duplicate = total.duplicate + excluded.duplicate,
                rejected = total.rejected + excluded.rejected,
                nulls = total.nulls + excluded.nulls,
                clock_future = total.clock_future + excluded.clock_future,
                clock_ancient = total.clock_ancient + excluded.clock_ancient,
                clock_unset = total.clock_unset + excluded.clock_unset
    )
    select count(*) from folded
$$;

comment on function iot.fold_ledger_hours_before(timestamptz) is
    'Makes one row a session and gateway (hour -infinity) of the hours of iot.ingest_gateway_hours before this time, so that '
    'they still add up to iot.ingest_counters, and deletes those of iot.ingest_written_hours. Returns the hours folded.';

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
    sum(r.readings)::bigint as readings,
    count(distinct d.dead_letter_id) as messages,
    min(d.received_at) as first_received_at,
    max(d.received_at) as last_received_at
from iot.ingest_dead_letters as d
cross join lateral (
    select e.entry ->> 'reason' as reason, 1::bigint as readings
    from jsonb_array_elements(d.rejected) as e (entry)
    where d.reason_counts is null
    union all
    select c.reason, c.readings::bigint
    from jsonb_each_text(d.reason_counts) as c (reason, readings)
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
    octet_length(s.pending) / 8 as pending_entries,
    s.filters,
    s.share_group,
    s.unfinished_starts,
    s.host,
    s.process_id,
    s.claimed_at,
    s.committed_at,
    now() - s.committed_at as age
from iot.ingest_sessions as s;

comment on view iot.v_ingest_sessions is 'The delivery journal for people.';
comment on column iot.v_ingest_sessions.client_id is 'MQTT client id.';
comment on column iot.v_ingest_sessions.epoch is 'Raised by each claim of the session.';
comment on column iot.v_ingest_sessions.pending_entries is
    'Committed messages whose acknowledgement the broker has not proved to know.';
comment on column iot.v_ingest_sessions.filters is 'Topic filters the session is subscribed to.';
comment on column iot.v_ingest_sessions.share_group is
    'Share group of its subscriptions; NULL: it is subscribed by itself.';
comment on column iot.v_ingest_sessions.unfinished_starts is
    'Processes in a row that claimed the session and committed nothing; three that ended so, and the next is careful.';
comment on column iot.v_ingest_sessions.host is 'Where the process that claimed it runs.';
comment on column iot.v_ingest_sessions.process_id is 'Process id of that process, on that host.';
comment on column iot.v_ingest_sessions.claimed_at is 'When the present epoch began.';
comment on column iot.v_ingest_sessions.committed_at is 'When the last batch was committed; NULL before the first.';
comment on column iot.v_ingest_sessions.age is 'Time since then.';
