-- Purpose: takes V15_1 back; the rollups stay as they are, and nobody fills them.
-- Locks:   none.
-- Time:    under 1 s.
-- Undo:    V15_1__create_rollup_functions.sql.

-- timescaledb: begin
drop function iot.roll_up_greenhouse_summary(timestamptz, timestamptz, uuid[]);
drop function iot.roll_up_sensor_readings_monthly(timestamptz, timestamptz, uuid[], smallint[]);
drop function iot.roll_up_sensor_readings_daily(timestamptz, timestamptz, uuid[], smallint[]);
drop function iot.roll_up_sensor_readings_hourly(timestamptz, timestamptz, uuid[], smallint[]);
-- timescaledb: end
