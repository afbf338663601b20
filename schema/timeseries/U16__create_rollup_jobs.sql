-- Purpose: takes V16 back: no job fills the rollups any more, or sums up old hours of the ledgers. Notes of late rows stay,
--          and are handled once there are jobs again. Windows and schedules changed since are not remembered.
-- Locks:   waits for a job that runs.
-- Time:    under 1 s once none runs.
-- Undo:    V16__create_rollup_jobs.sql.

-- timescaledb: begin
select delete_job(j.job_id)
from timescaledb_information.jobs as j
where j.proc_schema = 'iot'
    and j.proc_name in (
        'fill_sensor_readings_hourly',
        'fill_sensor_readings_daily',
        'fill_sensor_readings_monthly',
        'fill_greenhouse_daily_summary',
        'fill_sensor_performance_daily',
        'recompute_late_buckets',
        'fold_ledger_hours'
    );

drop procedure iot.fold_ledger_hours(integer, jsonb);
drop procedure iot.recompute_late_buckets(integer, jsonb);
drop procedure iot.fill_sensor_performance_daily(integer, jsonb);
drop procedure iot.fill_greenhouse_daily_summary(integer, jsonb);
drop procedure iot.fill_sensor_readings_monthly(integer, jsonb);
drop procedure iot.fill_sensor_readings_daily(integer, jsonb);
drop procedure iot.fill_sensor_readings_hourly(integer, jsonb);
-- timescaledb: end
