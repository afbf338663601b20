-- Purpose: takes V17 back: the grants in schema iot and the privileges of its routines. The four roles stay, other
--          databases of the server may use them, and so do connect and temporary where V17 granted them on this database,
--          which the metadata schema may share. Logins that worked through the roles are refused from here on.
-- Locks:   none that waits for readers or writers.
-- Time:    under 1 s.
-- Undo:    V17__create_roles.sql.

grant execute on all routines in schema iot to public;
revoke execute on all routines in schema iot from
    greenhouse_migrator, greenhouse_worker, greenhouse_operator, greenhouse_reader;
revoke all on all tables in schema iot from
    greenhouse_migrator, greenhouse_worker, greenhouse_operator, greenhouse_reader;
revoke all on schema iot from greenhouse_worker, greenhouse_operator, greenhouse_reader;
-- As its owner (deploy/prepare-database.sql) it keeps its rights: there they are no grant of V17.
do $$
begin
    if (select n.nspowner <> 'greenhouse_migrator'::regrole from pg_namespace as n where n.nspname = 'iot') then
        revoke all on schema iot from greenhouse_migrator;
    end if;
end;
$$;
