-- Purpose: who may do what with schema iot: four group roles that cannot log in, the same as in the metadata database.
--          Each grant is there because a statement of that role needs it. Give a login the role it works as:
--          grant greenhouse_worker to ingest.
--          worker    what write/ executes: adds readings and dead letters, compares a reading with the stored one, takes
--                    dead letters up again, keeps its session, ledgers, late notes and mirrors. Never updates or deletes
--                    a reading, so the configuration write.conflicting_value = "replace" needs a grant of its own.
--          operator  looks at everything, replays and purges dead letters, and has hours computed again; as the worker
--                    it adds readings and changes none.
--          reader    dashboards, `ingest status`: readings, rollups, names and ledgers; of dead letters when and why, no
--                    payload and no topic.
--          migrator  makes objects in the schema, and records them; owns the schema where deploy/prepare-database.sql
--                    made it, and no table: TimescaleDB runs the jobs of a table as its owner, who has to be able to
--                    log in; so what a login makes is that login's.
--          No default privileges: a later migration grants what it adds, and `ingest schema verify` misses it if not.
-- Locks:   none that waits for readers or writers.
-- Time:    under 1 s; a grant on a hypertable is passed on to its chunks, 1 000 a second.
-- Undo:    U17__create_roles.sql; the roles themselves stay, other databases of the server may use them.

do $$
declare
    v_role text;
begin
    foreach v_role in array array[
        'greenhouse_migrator', 'greenhouse_worker', 'greenhouse_operator', 'greenhouse_reader'
    ] loop
        continue when exists (select from pg_roles as r where r.rolname = v_role);
        begin
            execute format('create role %I nologin', v_role);
        exception
            -- The other database's migration, at the same time.
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise exception 'role % is missing, and % may not create it', v_role, current_user
                    using hint = 'Have a superuser run: create role ' || v_role || ' nologin. Then migrate again.';
        end;
    end loop;
    -- Everybody may connect and make temporary tables, unless this installation took that from PUBLIC.
    foreach v_role in array array['greenhouse_worker', 'greenhouse_operator', 'greenhouse_reader'] loop
        if not has_database_privilege(v_role, current_database(), 'connect') then
            execute format('grant connect on database %I to %I', current_database(), v_role);
        end if;
    end loop;
    foreach v_role in array array['greenhouse_worker', 'greenhouse_operator'] loop
        if not has_database_privilege(v_role, current_database(), 'temporary') then
            execute format('grant temporary on database %I to %I', current_database(), v_role);
        end if;
    end loop;
    -- Made by the runner, before the first file.
    if to_regclass('iot.schema_history') is not null then
        grant select on iot.schema_history to greenhouse_worker, greenhouse_operator;
        grant select, insert on iot.schema_history to greenhouse_migrator;
    end if;
end;
$$;

grant usage, create on schema iot to greenhouse_migrator;
grant usage on schema iot to greenhouse_worker, greenhouse_operator, greenhouse_reader;

-- worker: the readings; it reads the stored one to tell a duplicate from a conflict. Not by column: TimescaleDB passes
-- a grant on to the compressed table, which has no column time.
grant select, insert on iot.sensor_readings to greenhouse_worker;

-- worker: what it keeps to deliver once, and what it could not deliver.
grant insert on iot.ingest_dead_letters to greenhouse_worker;
grant select, insert, update, delete on iot.ingest_dead_letter_overflow to greenhouse_worker;
grant select, insert, update, delete on iot.ingest_sessions to greenhouse_worker; -- deletes one that it has ended
grant select on iot.v_ingest_sessions to greenhouse_worker; -- what `ingest reconcile` shows of them
grant select, insert, update on iot.ingest_counters to greenhouse_worker;
grant select, insert, update on iot.ingest_gateway_hours to greenhouse_worker;
grant select, insert, update on iot.ingest_written_hours to greenhouse_worker;
grant select, insert, update on iot.ingest_late_buckets to greenhouse_worker;

-- worker, when the catalog knows a name that was missing, and operator, `ingest dead-letters replay` and `purge`: what
-- the message and its circumstances were, nobody changes.
grant select, delete on iot.ingest_dead_letters to greenhouse_worker, greenhouse_operator;
grant update (
    replayed_at,
    tenant_id,
    rejected,
    reasons,
    reason_counts,
    rejected_count,
    missing
) on iot.ingest_dead_letters to greenhouse_worker, greenhouse_operator;

-- worker: the mirrors. A catalog row stays once a reading may have its id; a sensor may lose its interval.
grant select, insert, update on iot.units to greenhouse_worker;
grant select, insert, update on iot.sensor_types to greenhouse_worker;
grant select, insert, update, delete on iot.sensor_intervals to greenhouse_worker;

-- operator: `ingest status`, `ingest reconcile`, `ingest dead-letters`, `ingest schema status`, and
-- iot.note_late_buckets.
grant select on
    iot.sensor_readings,
    iot.v_sensor_readings_denormalized,
    iot.units,
    iot.sensor_types,
    iot.sensor_intervals,
    iot.sensor_readings_hourly,
    iot.sensor_readings_daily,
    iot.sensor_readings_monthly,
    iot.greenhouse_daily_summary,
    iot.sensor_performance_daily,
    iot.ingest_sessions,
    iot.ingest_counters,
    iot.ingest_gateway_hours,
    iot.ingest_written_hours,
    iot.ingest_dead_letters,
    iot.ingest_dead_letter_overflow,
    iot.v_ingest_sessions,
    iot.v_ingest_dead_letters_by_reason,
    iot.v_ingest_missing_names
to greenhouse_operator;
grant insert on iot.sensor_readings to greenhouse_operator;
grant insert, update on iot.ingest_written_hours to greenhouse_operator;
grant select, insert, update on iot.ingest_late_buckets to greenhouse_operator;

-- reader: `ingest status`.
grant select on
    iot.ingest_gateway_hours,
    iot.ingest_written_hours,
    iot.ingest_late_buckets,
    iot.v_ingest_sessions
to greenhouse_reader;
grant select (
    received_at,
    reasons
) on iot.ingest_dead_letters to greenhouse_reader;
grant select (
    hour,
    readings
) on iot.ingest_dead_letter_overflow to greenhouse_reader;

-- reader: the dashboards.
grant select on
    iot.sensor_readings,
    iot.v_sensor_readings_denormalized,
    iot.units,
    iot.sensor_types,
    iot.sensor_intervals,
    iot.sensor_readings_hourly,
    iot.sensor_readings_daily,
    iot.sensor_readings_monthly,
    iot.greenhouse_daily_summary,
    iot.sensor_performance_daily
to greenhouse_reader;

-- timescaledb: begin
grant select on
    iot.cagg_sensor_readings_hourly,
    iot.cagg_sensor_readings_daily,
    iot.cagg_sensor_readings_monthly,
    iot.cagg_greenhouse_conditions_realtime,
    iot.cagg_sensor_health_hourly,
    iot.v_sensor_readings_hourly,
    iot.v_sensor_readings_daily,
    iot.v_sensor_readings_monthly,
    iot.v_sensor_health_hourly,
    iot.v_latest_greenhouse_conditions,
    iot.v_sensors_needing_attention
to greenhouse_operator, greenhouse_reader;

-- PostgreSQL lets everybody execute a new routine.
revoke execute on all routines in schema iot from public;
grant execute on function iot.note_late_buckets(timestamptz, timestamptz) to greenhouse_operator;
-- timescaledb: end
