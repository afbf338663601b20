-- Purpose: takes V16 back: the four roles lose what they were granted in schema metadata. The roles and their members
--          stay: other databases of the server may use them.
-- Locks:   ACCESS EXCLUSIVE on bulk_operation_log and data_quality_log for a moment.
-- Time:    under 1 s.
-- Undo:    V16__create_roles.sql.

drop policy bulk_operation_log_end on metadata.bulk_operation_log;
drop policy bulk_operation_log_begin on metadata.bulk_operation_log;
drop policy bulk_operation_log_read on metadata.bulk_operation_log;
alter table metadata.bulk_operation_log disable row level security;
drop policy data_quality_log_decide on metadata.data_quality_log;
drop policy data_quality_log_go_on on metadata.data_quality_log;
drop policy data_quality_log_open on metadata.data_quality_log;
drop policy data_quality_log_read on metadata.data_quality_log;
alter table metadata.data_quality_log disable row level security;

revoke all on all tables in schema metadata from
    greenhouse_migrator,
    greenhouse_worker,
    greenhouse_operator,
    greenhouse_reader;
revoke all on all sequences in schema metadata from
    greenhouse_migrator,
    greenhouse_worker,
    greenhouse_operator,
    greenhouse_reader;
revoke all on function metadata.take_greenhouse_snapshot(uuid, text) from greenhouse_operator;

revoke all on schema metadata from
    greenhouse_worker,
    greenhouse_operator,
    greenhouse_reader;
-- As its owner (deploy/prepare-database.sql) it keeps its rights: there they are no grant of V16.
do $$
begin
    if (select n.nspowner <> 'greenhouse_migrator'::regrole from pg_namespace as n where n.nspname = 'metadata') then
        revoke all on schema metadata from greenhouse_migrator;
    end if;
end;
$$;
