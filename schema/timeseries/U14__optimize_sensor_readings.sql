-- Purpose: takes V14 back: no view, no policies, no unique index, no compression. TimescaleDB refuses the last while
--          a chunk is compressed: decompress_chunk() each first, with 23 times the space free. An older policy that
--          V14 replaced is not brought back.
-- Locks:   ACCESS EXCLUSIVE on iot.sensor_readings for a moment.
-- Time:    under 1 s.
-- Undo:    V14__optimize_sensor_readings.sql.

drop view iot.v_sensor_readings_denormalized;

-- timescaledb: begin
select remove_reorder_policy('iot.sensor_readings', if_exists => true);
call remove_columnstore_policy('iot.sensor_readings', if_exists => true);
-- timescaledb: end

drop index iot.sensor_readings_key;

-- timescaledb: begin
alter table iot.sensor_readings set (timescaledb.enable_columnstore = false);
-- timescaledb: end
