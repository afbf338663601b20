-- Purpose: takes V13_1 back; the views hold nothing of their own.
-- Locks:   ACCESS EXCLUSIVE on the six views, for a moment.
-- Time:    under 1 s.
-- Undo:    V13_1__create_aggregate_views.sql.

-- timescaledb: begin
drop view iot.v_sensors_needing_attention;
drop view iot.v_latest_greenhouse_conditions;
drop view iot.v_sensor_health_hourly;
drop view iot.v_sensor_readings_monthly;
drop view iot.v_sensor_readings_daily;
drop view iot.v_sensor_readings_hourly;
-- timescaledb: end
