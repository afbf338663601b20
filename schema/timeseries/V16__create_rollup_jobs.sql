-- Purpose: the jobs that fill the five rollups of V12, each for the last days of its table; a sixth that computes
--          again, in aggregates and rollups, the hours that iot.ingest_late_buckets names; and one that keeps the ledgers
--          by hour from growing for ever. All windows are in the jobs' configs, for alter_job() to change.
--          The jobs run as who migrates, which has to be a role that may log in.
-- Locks:   none.
-- Time:    under 1 s; the first runs follow at once, in the background.
-- Undo:    U16__create_rollup_jobs.sql.

-- timescaledb: begin

create or replace procedure iot.fill_sensor_readings_hourly(job_id integer, config jsonb)
language plpgsql
as $$
begin
    perform iot.roll_up_sensor_readings_hourly(
        date_trunc('hour', now() - coalesce(config ->> 'window', '3 days')::interval, 'UTC'),
        'infinity'
    );
end;
$$;

comment on procedure iot.fill_sensor_readings_hourly(integer, jsonb) is
    'Job: brings iot.sensor_readings_hourly up to date for the last config ->> ''window'' (an interval).';

create or replace procedure iot.fill_sensor_readings_daily(job_id integer, config jsonb)
language plpgsql
as $$
begin
    perform iot.roll_up_sensor_readings_daily(
        date_trunc('day', now() - coalesce(config ->> 'window', '4 days')::interval, 'UTC'),
        'infinity'
    );
end;
$$;

comment on procedure iot.fill_sensor_readings_daily(integer, jsonb) is
    'Job: brings iot.sensor_readings_daily up to date for the last config ->> ''window'' (an interval).';

create or replace procedure iot.fill_sensor_readings_monthly(job_id integer, config jsonb)
language plpgsql
as $$
begin
    perform iot.roll_up_sensor_readings_monthly(
        date_trunc('month', now() - coalesce(config ->> 'window', '2 months')::interval, 'UTC'),
        'infinity'
    );
end;
$$;

comment on procedure iot.fill_sensor_readings_monthly(integer, jsonb) is
    'Job: brings iot.sensor_readings_monthly up to date for the last config ->> ''window'' (an interval).';

create or replace procedure iot.fill_greenhouse_daily_summary(job_id integer, config jsonb)
language plpgsql
as $$
begin
    perform iot.roll_up_greenhouse_summary(
        date_trunc('day', now() - coalesce(config ->> 'window', '4 days')::interval, 'UTC'),
        'infinity'
    );
end;
$$;

comment on procedure iot.fill_greenhouse_daily_summary(integer, jsonb) is
    'Job: brings iot.greenhouse_daily_summary up to date for the last config ->> ''window'' (an interval).';

create or replace procedure iot.fill_sensor_performance_daily(job_id integer, config jsonb)
language plpgsql
as $$
begin
    perform iot.roll_up_sensor_performance(
        d.day,
        gap_factor => coalesce((config ->> 'gap_factor')::double precision, 2)
    )
    from generate_series(
        date_trunc('day', now() - coalesce(config ->> 'window', '4 days')::interval, 'UTC'),
        now(),
        interval '24 hours'
    ) as d (day);
end;
$$;

comment on procedure iot.fill_sensor_performance_daily(integer, jsonb) is
    'Job: brings iot.sensor_performance_daily up to date for the last config ->> ''window'' (an interval).';

create or replace procedure iot.recompute_late_buckets(job_id integer, config jsonb)
language plpgsql
as $$
declare
    v_day timestamptz;
    v_days integer := 0;
    v_notes iot.ingest_late_buckets[];
    v_first timestamptz;
    v_before timestamptz;
    v_settled timestamptz;
    v_hours_end timestamptz;
    v_greenhouses uuid[];
    v_types smallint[];
    v_month timestamptz;
    v_month_end timestamptz;
begin
    -- 24 hours, never 1 day: a day of the session's time zone may be an hour longer or shorter than one of UTC.
    -- Oldest day first, several transactions each: a run that is cut short has done the days before. A day is visited
    -- once a run: a note written meanwhile waits for the next.
    v_day := '-infinity';
    loop
        v_day := (
            select min(date_trunc('day', n.bucket, 'UTC'))
            from iot.ingest_late_buckets as n
            where n.bucket >= v_day
        );
        exit when v_day is null or v_days >= coalesce((config ->> 'max_days')::integer, 31);
        v_days := v_days + 1;

        select
            array_agg(n),
            min(n.bucket),
            max(n.bucket) + interval '1 hour',
            array_agg(distinct n.greenhouse_id),
            array_agg(distinct n.sensor_type_id)
        into v_notes, v_first, v_before, v_greenhouses, v_types
        from iot.ingest_late_buckets as n
        where n.bucket >= v_day
            and n.bucket < v_day + interval '24 hours';
        -- Committed before the refreshes, which commit by themselves and see what was committed by then.
        commit;

        -- TimescaleDB computes only those buckets in the range whose readings changed. What is not over yet is left
        -- to the policies: materialising a bucket hides what arrives in it until it is refreshed again.
        v_settled := date_trunc('hour', now() - interval '1 hour', 'UTC');
        v_month := date_trunc('month', v_day, 'UTC');
        v_month_end := date_trunc('month', v_month + interval '32 days', 'UTC');
        if v_first < v_settled then
            v_hours_end := least(v_before, v_settled);
            call refresh_continuous_aggregate('iot.cagg_greenhouse_conditions_realtime', v_first, v_hours_end);
            call refresh_continuous_aggregate('iot.cagg_sensor_readings_hourly', v_first, v_hours_end);
            call refresh_continuous_aggregate('iot.cagg_sensor_health_hourly', v_first, v_hours_end);
        end if;
        if v_day + interval '24 hours' <= v_settled then
            call refresh_continuous_aggregate('iot.cagg_sensor_readings_daily', v_day, v_day + interval '24 hours');
        end if;
        if v_month_end <= v_settled then
            call refresh_continuous_aggregate('iot.cagg_sensor_readings_monthly', v_month, v_month_end);
        end if;

        perform iot.roll_up_sensor_readings_hourly(v_first, v_before, v_greenhouses, v_types);
        perform iot.roll_up_sensor_readings_daily(
            v_day, v_day + interval '24 hours', v_greenhouses, v_types
        );
        perform iot.roll_up_sensor_readings_monthly(v_month, v_month_end, v_greenhouses, v_types);
        perform iot.roll_up_greenhouse_summary(v_day, v_day + interval '24 hours', v_greenhouses);
        perform iot.roll_up_sensor_performance(
            v_day, v_greenhouses, v_types, coalesce((config ->> 'gap_factor')::double precision, 2)
        );
        -- A note that was raised meanwhile stands for rows that may have come too late for the refresh: it stays.
        delete from iot.ingest_late_buckets as n
        using unnest(v_notes) as seen
        where n.bucket = seen.bucket
            and n.greenhouse_id = seen.greenhouse_id
            and n.sensor_type_id = seen.sensor_type_id
            and n.noted_at = seen.noted_at
            and n.rows = seen.rows;
        commit;
        v_day := v_day + interval '24 hours';
    end loop;
end;
$$;

comment on procedure iot.recompute_late_buckets(integer, jsonb) is
    'Job: computes again what iot.ingest_late_buckets names, in aggregates and rollups, at most config ->> ''max_days'' '
    'days a run, and removes the notes it has handled.';

-- 90 days: reconcile looks back over a day or a week, rows may come 30 days late; 1 MB a gateway.
create or replace procedure iot.fold_ledger_hours(job_id integer, config jsonb)
language plpgsql
as $$
begin
    perform iot.fold_ledger_hours_before(
        date_trunc('hour', now() - coalesce(config ->> 'keep', '90 days')::interval, 'UTC')
    );
end;
$$;

comment on procedure iot.fold_ledger_hours(integer, jsonb) is
    'Job: sums up the hours of iot.ingest_gateway_hours that are older than config ->> ''keep'' (an interval), and deletes '
    'those of iot.ingest_written_hours.';

-- Found again by name, so that a repeated run changes a job and never adds a second one.
do $$
declare
    v_wanted record;
    v_job integer;
begin
    for v_wanted in
        select *
        from (
            values
                ('fill_sensor_readings_hourly', interval '30 minutes', '{"window": "3 days"}'::jsonb),
                ('fill_sensor_readings_daily', interval '6 hours', '{"window": "4 days"}'),
                ('fill_sensor_readings_monthly', interval '1 day', '{"window": "2 months"}'),
                ('fill_greenhouse_daily_summary', interval '1 hour', '{"window": "4 days"}'),
                ('fill_sensor_performance_daily', interval '1 hour', '{"window": "4 days", "gap_factor": 2}'),
                ('recompute_late_buckets', interval '15 minutes', '{"max_days": 31, "gap_factor": 2}'),
                ('fold_ledger_hours', interval '1 day', '{"keep": "90 days"}')
        ) as w (name, every, config)
    loop
        v_job := (
            select min(j.job_id)
            from timescaledb_information.jobs as j
            where j.proc_schema = 'iot'
                and j.proc_name = v_wanted.name
        );
        if v_job is null then
            perform add_job(
                to_regproc('iot.' || v_wanted.name),
                v_wanted.every,
                config => v_wanted.config
            );
        else
            perform alter_job(
                v_job,
                schedule_interval => v_wanted.every,
                config => v_wanted.config,
                scheduled => true
            );
        end if;
    end loop;
end;
$$;
-- timescaledb: end
