-- Purpose: takes V12 back. Refuses where a rollup is older than what is left of the readings: it could not be computed
--          again. What V12 renamed aside gets its name back.
-- Locks:   ACCESS EXCLUSIVE on the five tables and on what is renamed, for a moment.
-- Time:    under 1 s.
-- Undo:    V12__create_aggregation_tables.sql.

do $$
declare
    v_earliest constant timestamptz := coalesce((select min(r.time) from iot.sensor_readings as r), 'infinity');
begin
    if exists (select from iot.sensor_readings_hourly where bucket < date_trunc('hour', v_earliest, 'UTC'))
        or exists (select from iot.sensor_readings_daily where bucket < date_trunc('day', v_earliest, 'UTC'))
        or exists (select from iot.sensor_readings_monthly where bucket < date_trunc('month', v_earliest, 'UTC'))
        or exists (select from iot.greenhouse_daily_summary where bucket < date_trunc('day', v_earliest, 'UTC'))
        or exists (select from iot.sensor_performance_daily where bucket < date_trunc('day', v_earliest, 'UTC'))
    then
        raise exception 'there are rollups of readings that are gone: undoing would lose them'
            using hint = 'Copy the tables elsewhere and empty them first.';
    end if;
end;
$$;

drop table iot.sensor_performance_daily;
drop table iot.greenhouse_daily_summary;
drop table iot.sensor_readings_monthly;
drop table iot.sensor_readings_daily;
drop table iot.sensor_readings_hourly;

-- timescaledb: begin
do $$
declare
    v_name text;
    v_kind "char";
begin
    foreach v_name in array array['sensor_readings_hourly', 'sensor_readings_daily_by_tenant'] loop
        v_kind := (select c.relkind from pg_class as c where c.oid = to_regclass('iot.' || v_name || '_v11'));
        continue when v_kind is null;
        execute format(
            'alter %s iot.%I rename to %I',
            case
                when v_kind in ('r', 'p') then 'table'
                when v_kind = 'v' and not exists (
                    select
                    from timescaledb_information.continuous_aggregates as a
                    where a.view_schema = 'iot'
                        and a.view_name = v_name || '_v11'
                ) then 'view'
                else 'materialized view'
            end,
            v_name || '_v11',
            v_name
        );
    end loop;
end;
$$;
-- timescaledb: end
