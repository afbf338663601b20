-- Purpose: takes V13 back. Refuses where an aggregate is older than what is left of the readings: it could not be
--          computed again.
-- Locks:   ACCESS EXCLUSIVE on the five aggregates, for a moment.
-- Time:    under 1 s.
-- Undo:    V13__create_continuous_aggregates.sql.

-- timescaledb: begin
do $$
declare
    v_earliest constant timestamptz := coalesce((select min(r.time) from iot.sensor_readings as r), 'infinity');
begin
    if exists (select from iot.cagg_sensor_readings_hourly where bucket < date_trunc('hour', v_earliest, 'UTC'))
        or exists (select from iot.cagg_sensor_readings_daily where bucket < date_trunc('day', v_earliest, 'UTC'))
        or exists (select from iot.cagg_sensor_readings_monthly where bucket < date_trunc('month', v_earliest, 'UTC'))
        or exists (
            select
            from iot.cagg_greenhouse_conditions_realtime
            where bucket < date_trunc('hour', v_earliest, 'UTC')
        )
        or exists (select from iot.cagg_sensor_health_hourly where bucket < date_trunc('hour', v_earliest, 'UTC'))
    then
        raise exception 'there are aggregates of readings that are gone: undoing would lose them'
            using hint = 'Copy them into tables of your own first, and drop them.';
    end if;
end;
$$;

drop materialized view iot.cagg_sensor_health_hourly;
drop materialized view iot.cagg_greenhouse_conditions_realtime;
drop materialized view iot.cagg_sensor_readings_monthly;
drop materialized view iot.cagg_sensor_readings_daily;
drop materialized view iot.cagg_sensor_readings_hourly;
-- timescaledb: end
