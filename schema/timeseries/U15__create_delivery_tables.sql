-- Purpose: takes V15 back. Refuses while there are dead letters, or a session that is not drained: the worker could
--          no longer tell what it has written already.
-- Locks:   ACCESS EXCLUSIVE on the seven tables; stop the workers first.
-- Time:    under 1 s.
-- Undo:    V15__create_delivery_tables.sql.

do $$
begin
    if exists (select from iot.ingest_dead_letters) then
        raise exception 'there are dead letters: undoing would lose them'
            using hint = 'Replay or purge them first: ingest dead-letters.';
    end if;
    if exists (select from iot.ingest_sessions where pending <> ''::bytea) then
        raise exception 'a session has messages the broker may send again: undoing would write them twice'
            using hint = 'Stop the workers once their queues are empty, and delete their rows in iot.ingest_sessions.';
    end if;
end;
$$;

drop view iot.v_ingest_sessions;
drop view iot.v_ingest_missing_names;
drop view iot.v_ingest_dead_letters_by_reason;
drop table iot.ingest_late_buckets;
drop function iot.fold_ledger_hours_before(timestamptz);
drop table iot.ingest_written_hours;
drop table iot.ingest_gateway_hours;
drop table iot.ingest_counters;
drop table iot.ingest_dead_letter_overflow;
drop table iot.ingest_dead_letters;
drop table iot.ingest_sessions;
