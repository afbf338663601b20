"""What each group role may do with each table of schema `metadata`: nothing beside."""

from __future__ import annotations

CATALOGS = (
    "units",
    "sensor_types",
    "actuator_types",
    "actuator_states",
    "alert_severities",
    "alert_types",
    "unit_aliases",
    "sensor_type_aliases",
)
ENTITIES = ("tenants", "greenhouses", "sensors", "actuators")
HISTORIES = (
    "actuator_command_history",
    "sensor_configuration_history",
    "alert_resolution_history",
    "greenhouse_snapshot",
)
VIEWS = (
    "v_sensors_denormalized",
    "v_actuators_denormalized",
    "v_alerts_denormalized",
    "v_unmapped_names",
)
CACHED = (
    "tenants",
    "greenhouses",
    "sensors",
    "units",
    "sensor_types",
    "unit_aliases",
    "sensor_type_aliases",
)
NO_HASH = "select(id,tenant_id,username,email,role,is_active,created_at,updated_at)"
BULK_END = (
    "update(status,completed_at,total_records,successful_records,failed_records,"
    "skipped_records,error_summary)"
)
ISSUE_READ = (
    "select(data_source,quality_issue_type,severity,greenhouse_id,sensor_id,tenant_id,time_range_start,"
    "time_range_end,affected_records_count,description,sample_data,status)"
)
ISSUE_GOES_ON = (
    "update(data_source,severity,tenant_id,time_range_start,time_range_end,affected_records_count,description,"
    "sample_data,status)"
)
MATRIX: dict[str, dict[str, set[str]]] = {
    "greenhouse_migrator": {"schema_history": {"select", "insert"}},
    "greenhouse_worker": {
        **{table: {"select"} for table in (*CACHED, "schema_history")},
        "data_quality_log": {"insert", ISSUE_READ, ISSUE_GOES_ON},
        "bulk_operation_log": {"insert", "select(id)", BULK_END},
    },
    "greenhouse_operator": {
        **{table: {"select", "insert", "update"} for table in (*CATALOGS, *ENTITIES)},
        **{table: {"select"} for table in (*HISTORIES, *VIEWS, "audit_log", "schema_history")},
        "alerts": {
            "select",
            "update(is_resolved,resolved_at,resolved_by,updated_at,alert_type_id,severity_id)",
        },
        "data_quality_log": {"select", "insert", "update(status)"},
        "bulk_operation_log": {"select", "insert", BULK_END},
        "users": {NO_HASH},
    },
    "greenhouse_reader": {
        **{table: {"select"} for table in (*CATALOGS, *ENTITIES, *HISTORIES, *VIEWS, "alerts")},
        "data_quality_log": {"select"},
        "bulk_operation_log": {"select"},
        "users": {NO_HASH},
    },
}
