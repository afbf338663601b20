-- Purpose: describes what a schema holds, one line of text an object, for `ingest schema verify` and the snapshots.
--          $1 is the schema's name. Lengths of types, names of indexes and NOT NULL are left out: a live database
--          that was there before these files may differ in them and still serve.
-- Locks:   none. Time: under 1 s. Undo: reads only.

select line
from (
    select format(
        '%s %s.%s.%s %s',
        case c.relkind when 'v' then 'view column' else 'column' end,
        n.nspname,
        c.relname,
        a.attname,
        format_type(a.atttypid, null)
    ) as line
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid
    where n.nspname = $1
        and c.relkind in ('r', 'p', 'v', 'm')
        and a.attnum > 0
        and not a.attisdropped

    union all

    select format(
        '%s %s.%s %s',
        case when i.indisunique then 'unique index' else 'index' end,
        n.nspname,
        c.relname,
        replace(regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', ''), '"', '')
    )
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as c on c.oid = i.indrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1
        and i.indisvalid

    union all

    select format('trigger %s.%s %s', n.nspname, c.relname, t.tgname)
    from pg_catalog.pg_trigger as t
    join pg_catalog.pg_class as c on c.oid = t.tgrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1
        and not t.tgisinternal
        and t.tgenabled <> 'D'
        -- TimescaleDB's own, gone in later versions of it.
        and t.tgname not like 'ts\_%'

    union all

    select format('routine %s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    where n.nspname = $1

    union all

    -- What the group roles may do; what an installation grants to roles of its own is its business.
    select format(
        'grant %s %s on %s',
        g.grantee::regrole,
        lower(g.privilege_type),
        g.object
    )
    from (
        select (aclexplode(n.nspacl)).grantee, (aclexplode(n.nspacl)).privilege_type, 'schema ' || n.nspname as object
        from pg_catalog.pg_namespace as n
        where n.nspname = $1
        union all
        select (aclexplode(c.relacl)).grantee, (aclexplode(c.relacl)).privilege_type, n.nspname || '.' || c.relname
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = $1
        union all
        select
            (aclexplode(a.attacl)).grantee,
            (aclexplode(a.attacl)).privilege_type,
            n.nspname || '.' || c.relname || '.' || a.attname
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_class as c on c.oid = a.attrelid
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = $1
            and not a.attisdropped
        union all
        select
            (aclexplode(p.proacl)).grantee,
            (aclexplode(p.proacl)).privilege_type,
            format('%s.%s(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = $1
    ) as g
    where g.grantee in (select r.oid from pg_catalog.pg_roles as r where r.rolname like 'greenhouse\_%')
) as described
order by line collate "C";
