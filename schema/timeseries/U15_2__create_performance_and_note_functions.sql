-- Purpose: takes V15_2 back; iot.sensor_performance_daily stays as it is, and nobody fills it. Notes stay too.
-- Locks:   none.
-- Time:    under 1 s.
-- Undo:    V15_2__create_performance_and_note_functions.sql.

-- timescaledb: begin
drop function iot.note_late_buckets(timestamptz, timestamptz);
drop function iot.roll_up_sensor_performance(timestamptz, uuid[], smallint[], double precision);
-- timescaledb: end
