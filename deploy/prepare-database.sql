-- Makes a database ready for logins that may do what they have to, and no more. An administrator runs it with psql,
-- once in each of the two databases, before `ingest schema migrate`:
--
--   psql --set=schema=metadata --file=deploy/prepare-database.sql postgresql://postgres@host/greenhouse_metadata
--   psql --set=schema=iot --file=deploy/prepare-database.sql postgresql://postgres@host/greenhouse_timeseries
--
-- and then gives the logins passwords: \password ingest_migrator, ingest_worker, ingest_operator, ingest_reader.
-- Where the two databases are one, both commands run there. Again is harmless.
--
--   ingest_migrator  in greenhouse_migrator, which owns the schema; owns what it makes there
--   ingest_worker    in greenhouse_worker: `ingest run`, `ingest check`
--   ingest_operator  in greenhouse_operator: `ingest catalog`, `ingest dead-letters`, `ingest reconcile`
--   ingest_reader    in greenhouse_reader: dashboards
--
-- What is in the schema already and belongs to a superuser is handed over to ingest_migrator, jobs included; what
-- belongs to somebody else stays theirs, and is named. More in docs/database-logins.md.

\set ON_ERROR_STOP on
set client_min_messages = 'warning';
select set_config('greenhouse.schema', :'schema', false) as schema;
select :'schema' = 'iot' as is_iot \gset

\if :is_iot
-- timescaledb: begin
create extension if not exists timescaledb;
-- timescaledb: end
\endif

do $$
declare
    v_schema text := current_setting('greenhouse.schema');
    v_role text;
    v_member record;
begin
    if v_schema not in ('metadata', 'iot') then
        raise exception 'schema is %: give --set=schema=metadata or --set=schema=iot', v_schema;
    end if;
    foreach v_role in array array[
        'greenhouse_migrator', 'greenhouse_worker', 'greenhouse_operator', 'greenhouse_reader'
    ] loop
        if not exists (select from pg_roles as r where r.rolname = v_role) then
            execute format('create role %I nologin', v_role);
        end if;
        -- Everybody may connect and make temporary tables, unless this installation took that from PUBLIC.
        if not has_database_privilege(v_role, current_database(), 'connect') then
            execute format('grant connect on database %I to %I', current_database(), v_role);
        end if;
    end loop;
    foreach v_role in array array['greenhouse_worker', 'greenhouse_operator'] loop
        if v_schema = 'iot' and not has_database_privilege(v_role, current_database(), 'temporary') then
            execute format('grant temporary on database %I to %I', current_database(), v_role);
        end if;
    end loop;
    for v_member in
        select *
        from (
            values
                ('ingest_migrator', 'greenhouse_migrator'),
                ('ingest_worker', 'greenhouse_worker'),
                ('ingest_operator', 'greenhouse_operator'),
                ('ingest_reader', 'greenhouse_reader')
        ) as m (login, of_role)
    loop
        if not exists (select from pg_roles as r where r.rolname = v_member.login) then
            execute format('create role %I login', v_member.login);
        end if;
        execute format('grant %I to %I', v_member.of_role, v_member.login);
    end loop;
    -- An administrator who is no superuser gives away only to roles it is in.
    if not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
        execute format('grant greenhouse_migrator to %I', current_user);
    end if;
    if to_regnamespace(v_schema) is null then
        execute format('create schema %I authorization greenhouse_migrator', v_schema);
    end if;
end;
$$;

do $$
declare
    v_schema text := current_setting('greenhouse.schema');
    v_aggregates text[] := '{}';
    v_object record;
begin
    if to_regclass('timescaledb_information.continuous_aggregates') is not null then
        select coalesce(array_agg(a.view_name::text), '{}')
        into v_aggregates
        from timescaledb_information.continuous_aggregates as a
        where a.view_schema = v_schema;
    end if;
    -- Sequences and indexes go with their tables, chunks and policies with their hypertable.
    for v_object in
        select
            o.kind,
            o.name,
            case o.kind when 'schema' then 'greenhouse_migrator' else 'ingest_migrator' end as heir,
            o.owner::regrole as owner,
            r.rolsuper as is_superusers,
            pg_has_role('ingest_migrator', o.owner, 'usage') as is_ours
        from (
            select 'schema' as kind, format('%I', n.nspname) as name, n.nspowner as owner
            from pg_namespace as n
            where n.nspname = v_schema
            union all
            select
                case
                    when c.relkind = 'm' or c.relname = any (v_aggregates) then 'materialized view'
                    when c.relkind = 'v' then 'view'
                    else 'table'
                end,
                format('%I.%I', v_schema, c.relname),
                c.relowner
            from pg_class as c
            where c.relnamespace = to_regnamespace(v_schema)
                and c.relkind in ('r', 'p', 'v', 'm')
            union all
            select 'routine', p.oid::regprocedure::text, p.proowner
            from pg_proc as p
            where p.pronamespace = to_regnamespace(v_schema)
        ) as o
        join pg_roles as r on r.oid = o.owner
        order by o.kind, o.name
    loop
        if v_object.is_superusers then
            execute format('alter %s %s owner to %I', v_object.kind, v_object.name, v_object.heir);
        elsif not v_object.is_ours then
            raise warning '% % belongs to %, and stays theirs', v_object.kind, v_object.name, v_object.owner
                using hint = format('To have it migrated nevertheless: grant %I to ingest_migrator;', v_object.owner);
        end if;
    end loop;
end;
$$;

-- V14 builds the index of chunks that are there already, one by one, in the schema they are in.
\if :is_iot
-- timescaledb: begin
do $$
declare
    v_schema text;
begin
    for v_schema in
        select distinct c.chunk_schema
        from timescaledb_information.chunks as c
        where c.hypertable_schema = 'iot'
            and c.hypertable_name = 'sensor_readings'
    loop
        execute format('grant create on schema %I to greenhouse_migrator', v_schema);
    end loop;
end;
$$;
-- timescaledb: end
\endif

-- TimescaleDB has no statement to give a job away: each is made again by its new owner, with a number of its own.
\if :is_iot
-- timescaledb: begin
do $$
declare
    v_job record;
begin
    for v_job in
        select j.job_id, j.proc_name, j.schedule_interval, j.config, j.scheduled
        from timescaledb_information.jobs as j
        join pg_roles as r on r.rolname = j.owner::text
        where j.proc_schema = 'iot'
            and r.rolsuper
    loop
        perform delete_job(v_job.job_id);
        set local role ingest_migrator;
        perform add_job(
            to_regproc(format('iot.%I', v_job.proc_name)),
            v_job.schedule_interval,
            config => v_job.config,
            scheduled => v_job.scheduled
        );
        reset role;
    end loop;
end;
$$;
-- timescaledb: end
\endif
