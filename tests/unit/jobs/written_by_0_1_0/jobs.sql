BEGIN TRANSACTION;
CREATE TABLE application_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    version_name TEXT NOT NULL UNIQUE,
    version_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL);
INSERT INTO "application_versions" VALUES('13c6059d-4984-4a2f-944f-a63dc6fdccf6','steps-1',1796004823000,1796004823000,'enrich');
CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO "dbos_migrations" VALUES(125);
CREATE TABLE enrichment_decisions (
	id INTEGER NOT NULL, 
	archive TEXT NOT NULL, 
	study_instance_uid TEXT NOT NULL, 
	series_instance_uid TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	generation INTEGER NOT NULL, 
	received TEXT NOT NULL, 
	first_seen TEXT NOT NULL, 
	decision TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	job_id TEXT NOT NULL, 
	state TEXT NOT NULL, 
	superseded_by TEXT NOT NULL, 
	rule TEXT NOT NULL, 
	argument TEXT NOT NULL, 
	started_at TEXT NOT NULL, 
	ended_at TEXT NOT NULL, 
	summary TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (archive, fingerprint)
);
INSERT INTO "enrichment_decisions" VALUES(1,'local','2.25.100','2.25.200','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',0,'','2026-01-02T00:00:00.000+00:00','enrich','','','dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde','running','','default','{"archive": "local", "fingerprint": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "generation": 0, "plan": "{\"destinations\": [], \"hold_back\": [], \"home_archive\": \"local\", \"image_library\": false, \"location\": {\"absent\": \"\", \"crop\": null, \"min_coverage\": [], \"model\": {\"digest\": \"0000000000000000000000000000000000000000000000000000000000000000\", \"name\": \"bpr\"}, \"on_invalid_spacing\": \"flag\", \"on_reversed\": \"flag\"}, \"models\": [{\"digest\": \"abababababababababababababababababababababababababababababababab\", \"name\": \"chest_ellipsoids\"}], \"outputs\": [\"seg\", \"body-landmarks\", \"landmarks\"], \"radiomics\": {\"bin_count\": 0, \"bin_width_hu\": 25.0, \"classes\": [\"shape\", \"firstorder\", \"glcm\", \"glrlm\", \"glszm\", \"ngtdm\", \"gldm\"], \"deprecated\": false, \"force_2d\": false, \"interpolation\": \"linear\", \"log_sigma_mm\": [], \"mode\": \"ibsi\", \"resegment_hu\": [], \"resegment_sigma\": 0.0, \"spacing_mm\": [], \"wavelet\": false}, \"rule\": \"default\", \"seg\": {\"ceiling\": 0.2, \"encoding\": \"auto\"}}", "series_instance_uid": "2.25.200", "study_instance_uid": "2.25.100"}','2026-11-30T02:13:44.224+00:00','','{"objects": [], "stages": []}');
INSERT INTO "enrichment_decisions" VALUES(2,'local','2.25.100','2.25.201','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',0,'','2026-01-02T00:00:00.000+00:00','enrich','','','bf18731072618d8ab3f6de0fed058ed242703567b0a8fe38b5fc4d597c789769','queued','','default','{"archive": "local", "fingerprint": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "generation": 0, "plan": "{\"destinations\": [\"far\"], \"hold_back\": [], \"home_archive\": \"local\", \"image_library\": false, \"location\": null, \"models\": [{\"digest\": \"abababababababababababababababababababababababababababababababab\", \"name\": \"chest_ellipsoids\"}], \"outputs\": [\"seg\", \"landmarks\"], \"radiomics\": {\"bin_count\": 0, \"bin_width_hu\": 25.0, \"classes\": [\"shape\", \"firstorder\", \"glcm\", \"glrlm\", \"glszm\", \"ngtdm\", \"gldm\"], \"deprecated\": false, \"force_2d\": false, \"interpolation\": \"linear\", \"log_sigma_mm\": [], \"mode\": \"ibsi\", \"resegment_hu\": [], \"resegment_sigma\": 0.0, \"spacing_mm\": [], \"wavelet\": false}, \"rule\": \"default\", \"seg\": {\"ceiling\": 0.2, \"encoding\": \"auto\"}}", "series_instance_uid": "2.25.200", "study_instance_uid": "2.25.100"}','','','{"objects": [], "stages": []}');
CREATE TABLE enrichment_notes (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE notifications (
    message_uuid TEXT NOT NULL DEFAULT (hex(randomblob(16))) PRIMARY KEY,
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000), "serialization" TEXT DEFAULT NULL, "consumed" BOOLEAN NOT NULL DEFAULT FALSE, consumed_by_function_id INTEGER,
    FOREIGN KEY (destination_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE "operation_outputs" (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms INTEGER,
    completed_at_epoch_ms INTEGER,
    serialization TEXT,
    application_name TEXT DEFAULT NULL,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    PRIMARY KEY (workflow_uuid, function_id)
);
INSERT INTO "operation_outputs" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',1,'begin','true',NULL,NULL,1796004824222,1796004824254,'portable_json','enrich',1796004824000);
INSERT INTO "operation_outputs" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',2,'retrieve','"{\"detail\": \"\", \"reason\": \"\", \"stage\": {\"checks\": [], \"held_back\": false, \"location\": null, \"name\": \"retrieve\", \"notes\": [], \"peak_mib\": 293.2, \"provider\": \"\", \"seconds\": 0.0, \"volumes_ml\": {}}, \"state\": \"running\", \"stored\": null}"',NULL,NULL,1796004824286,1796004824318,'portable_json','enrich',1796004824000);
INSERT INTO "operation_outputs" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',3,'locate bpr','"{\"detail\": \"\", \"reason\": \"\", \"stage\": {\"checks\": [], \"held_back\": false, \"location\": {\"coverage\": {\"abdomen\": 0.41, \"chest\": 0.97, \"head\": 0.0}, \"expected_spacing_mm\": 25.4, \"landmarks\": [{\"key\": \"Th12\", \"sd_mm\": 19.4, \"slice_index\": 1, \"z_mm\": -73.74}, {\"key\": \"Th8\", \"sd_mm\": 20.0, \"slice_index\": 5, \"z_mm\": 31.2}], \"notes\": [\"1 of 12 slices show no body and have no score\"], \"raw_scores\": [null, 43.0, 46.0, 49.0, 52.0, 55.0, 58.0, 61.0, 64.0, 67.0, 70.0, 73.0], \"reason\": \"\", \"regions\": {\"abdomen\": [[1, 5]], \"chest\": [[1, 11]]}, \"reversed\": false, \"scores\": [null, 44.0, 47.0, 50.0, 53.0, 56.0, 59.0, 62.0, 65.0, 68.0, 71.0, 74.0], \"slope_per_mm\": 0.12, \"slope_ratio\": 1.02, \"tag\": \"CHEST\", \"valid_spacing\": true, \"z_mm\": [-100.0, -75.0, -50.0, -25.0, 0.0, 25.0, 50.0, 75.0, 100.0, 125.0, 150.0, 175.0]}, \"name\": \"locate bpr\", \"notes\": [\"1 of 12 slices show no body and have no score\"], \"peak_mib\": 293.3, \"provider\": \"cpu\", \"seconds\": 0.0, \"volumes_ml\": {}}, \"state\": \"running\", \"stored\": null}"',NULL,NULL,1796004824334,1796004824351,'portable_json','enrich',1796004824000);
INSERT INTO "operation_outputs" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',4,'report body-landmarks','"{\"detail\": \"\", \"reason\": \"\", \"stage\": {\"checks\": [], \"held_back\": false, \"location\": null, \"name\": \"report body-landmarks\", \"notes\": [], \"peak_mib\": 403.7, \"provider\": \"\", \"seconds\": 1.105, \"volumes_ml\": {}}, \"state\": \"running\", \"stored\": {\"adopted\": false, \"kind\": \"body-landmarks\", \"series_instance_uid\": \"2.25.194015963662165916916996460416841897404\", \"sop_class_uid\": \"1.2.840.10008.5.1.4.1.1.88.34\", \"sop_instance_uid\": \"2.25.17696618088275075660465270805558983027\", \"study_instance_uid\": \"2.25.100\"}}"',NULL,NULL,1796004824370,1796004825496,'portable_json','enrich',1796004825000);
INSERT INTO "operation_outputs" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',5,'segment chest_ellipsoids','"{\"detail\": \"\", \"reason\": \"\", \"stage\": {\"checks\": [], \"held_back\": false, \"location\": null, \"name\": \"segment chest_ellipsoids\", \"notes\": [], \"peak_mib\": 363.1, \"provider\": \"cpu\", \"seconds\": 0.066, \"volumes_ml\": {\"airway\": 26.88, \"body_remainder\": 1585.92, \"bone\": 92.16, \"lung_left\": 184.32, \"lung_right\": 184.32}}, \"state\": \"running\", \"stored\": {\"adopted\": false, \"kind\": \"seg\", \"series_instance_uid\": \"2.25.19135372199943371338814741416278984687\", \"sop_class_uid\": \"1.2.840.10008.5.1.4.1.1.66.7\", \"sop_instance_uid\": \"2.25.247198601940056915185669762298892927804\", \"study_instance_uid\": \"2.25.100\"}}"',NULL,NULL,1796004825518,1796004825609,'portable_json','enrich',1796004825000);
CREATE TABLE queues (
    queue_id TEXT PRIMARY KEY DEFAULT (hex(randomblob(16))),
    name TEXT NOT NULL UNIQUE,
    concurrency INTEGER,
    worker_concurrency INTEGER,
    rate_limit_max INTEGER,
    rate_limit_period_sec REAL,
    priority_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    partition_queue BOOLEAN NOT NULL DEFAULT FALSE,
    polling_interval_sec REAL NOT NULL DEFAULT 1.0,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
, "application_name" TEXT DEFAULT NULL, "partition_concurrency" INTEGER DEFAULT NULL, "partition_worker_concurrency" INTEGER DEFAULT NULL, "partition_rate_limit_max" INTEGER DEFAULT NULL, "partition_rate_limit_period_sec" REAL DEFAULT NULL);
INSERT INTO "queues" VALUES('B989177BDC5578C7B3C87212F3A209B1','enrich',NULL,1,NULL,NULL,1,0,1.0,1796004823000,1796004823039,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "queues" VALUES('8EA27A0834BA9F084D87F40B9887F6C7','deliver',NULL,2,NULL,NULL,1,0,1.0,1796004823000,1796004823060,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL, function_id INTEGER NOT NULL DEFAULT 0, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key, "offset"),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE TABLE workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid) 
        ON UPDATE CASCADE ON DELETE CASCADE
);
INSERT INTO "workflow_events" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde','stage','"report chest_ellipsoids"','portable_json');
CREATE TABLE workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL, "serialization" TEXT DEFAULT NULL,
    PRIMARY KEY (workflow_uuid, function_id, key),
    FOREIGN KEY (workflow_uuid) REFERENCES workflow_status(workflow_uuid)
        ON UPDATE CASCADE ON DELETE CASCADE
);
INSERT INTO "workflow_events_history" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',2,'stage','"retrieve"','portable_json');
INSERT INTO "workflow_events_history" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',3,'stage','"locate bpr"','portable_json');
INSERT INTO "workflow_events_history" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',4,'stage','"report body-landmarks"','portable_json');
INSERT INTO "workflow_events_history" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',5,'stage','"segment chest_ellipsoids"','portable_json');
INSERT INTO "workflow_events_history" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde',6,'stage','"report chest_ellipsoids"','portable_json');
CREATE TABLE workflow_input (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    inputs TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
INSERT INTO "workflow_input" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde','{"namedArgs":{},"positionalArgs":["{\"archive\": \"local\", \"fingerprint\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"generation\": 0, \"plan\": \"{\\\"destinations\\\": [], \\\"hold_back\\\": [], \\\"home_archive\\\": \\\"local\\\", \\\"image_library\\\": false, \\\"location\\\": {\\\"absent\\\": \\\"\\\", \\\"crop\\\": null, \\\"min_coverage\\\": [], \\\"model\\\": {\\\"digest\\\": \\\"0000000000000000000000000000000000000000000000000000000000000000\\\", \\\"name\\\": \\\"bpr\\\"}, \\\"on_invalid_spacing\\\": \\\"flag\\\", \\\"on_reversed\\\": \\\"flag\\\"}, \\\"models\\\": [{\\\"digest\\\": \\\"abababababababababababababababababababababababababababababababab\\\", \\\"name\\\": \\\"chest_ellipsoids\\\"}], \\\"outputs\\\": [\\\"seg\\\", \\\"body-landmarks\\\", \\\"landmarks\\\"], \\\"radiomics\\\": {\\\"bin_count\\\": 0, \\\"bin_width_hu\\\": 25.0, \\\"classes\\\": [\\\"shape\\\", \\\"firstorder\\\", \\\"glcm\\\", \\\"glrlm\\\", \\\"glszm\\\", \\\"ngtdm\\\", \\\"gldm\\\"], \\\"deprecated\\\": false, \\\"force_2d\\\": false, \\\"interpolation\\\": \\\"linear\\\", \\\"log_sigma_mm\\\": [], \\\"mode\\\": \\\"ibsi\\\", \\\"resegment_hu\\\": [], \\\"resegment_sigma\\\": 0.0, \\\"spacing_mm\\\": [], \\\"wavelet\\\": false}, \\\"rule\\\": \\\"default\\\", \\\"seg\\\": {\\\"ceiling\\\": 0.2, \\\"encoding\\\": \\\"auto\\\"}}\", \"series_instance_uid\": \"2.25.200\", \"study_instance_uid\": \"2.25.100\"}"]}',1796004823000);
INSERT INTO "workflow_input" VALUES('bf18731072618d8ab3f6de0fed058ed242703567b0a8fe38b5fc4d597c789769','{"namedArgs":{},"positionalArgs":["{\"archive\": \"local\", \"fingerprint\": \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\", \"generation\": 0, \"plan\": \"{\\\"destinations\\\": [\\\"far\\\"], \\\"hold_back\\\": [], \\\"home_archive\\\": \\\"local\\\", \\\"image_library\\\": false, \\\"location\\\": null, \\\"models\\\": [{\\\"digest\\\": \\\"abababababababababababababababababababababababababababababababab\\\", \\\"name\\\": \\\"chest_ellipsoids\\\"}], \\\"outputs\\\": [\\\"seg\\\", \\\"landmarks\\\"], \\\"radiomics\\\": {\\\"bin_count\\\": 0, \\\"bin_width_hu\\\": 25.0, \\\"classes\\\": [\\\"shape\\\", \\\"firstorder\\\", \\\"glcm\\\", \\\"glrlm\\\", \\\"glszm\\\", \\\"ngtdm\\\", \\\"gldm\\\"], \\\"deprecated\\\": false, \\\"force_2d\\\": false, \\\"interpolation\\\": \\\"linear\\\", \\\"log_sigma_mm\\\": [], \\\"mode\\\": \\\"ibsi\\\", \\\"resegment_hu\\\": [], \\\"resegment_sigma\\\": 0.0, \\\"spacing_mm\\\": [], \\\"wavelet\\\": false}, \\\"rule\\\": \\\"default\\\", \\\"seg\\\": {\\\"ceiling\\\": 0.2, \\\"encoding\\\": \\\"auto\\\"}}\", \"series_instance_uid\": \"2.25.200\", \"study_instance_uid\": \"2.25.100\"}"]}',1796004823000);
CREATE TABLE workflow_output (
    workflow_uuid TEXT NOT NULL PRIMARY KEY,
    output TEXT,
    error TEXT,
    retention_timestamp INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000)
);
CREATE TABLE workflow_schedules (
    schedule_id TEXT PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL
, "last_fired_at" TEXT DEFAULT NULL, "automatic_backfill" BOOLEAN NOT NULL DEFAULT FALSE, "cron_timezone" TEXT DEFAULT NULL, "queue_name" TEXT DEFAULT NULL, "application_name" TEXT DEFAULT NULL);
CREATE TABLE workflow_status (
    workflow_uuid TEXT PRIMARY KEY,
    status TEXT,
    name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    request TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    updated_at INTEGER NOT NULL DEFAULT (strftime('%s','now') * 1000),
    application_version TEXT,
    application_id TEXT,
    class_name TEXT DEFAULT NULL,
    config_name TEXT DEFAULT NULL,
    recovery_attempts INTEGER DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms INTEGER,
    workflow_deadline_epoch_ms INTEGER,
    inputs TEXT,
    started_at_epoch_ms INTEGER,
    deduplication_id TEXT,
    priority INTEGER NOT NULL DEFAULT 0
, queue_partition_key TEXT, forked_from TEXT, "owner_xid" TEXT DEFAULT NULL, "parent_workflow_id" TEXT DEFAULT NULL, "serialization" TEXT DEFAULT NULL, "delay_until_epoch_ms" BIGINT DEFAULT NULL, "was_forked_from" BOOLEAN NOT NULL DEFAULT FALSE, "rate_limited" BOOLEAN NOT NULL DEFAULT FALSE, "completed_at" BIGINT, "attributes" TEXT, "schedule_name" TEXT, "debounce_deadline_epoch_ms" BIGINT DEFAULT NULL, "is_debounced" BOOLEAN NOT NULL DEFAULT FALSE, "application_name" TEXT DEFAULT NULL, "creator_xid" TEXT DEFAULT NULL);
INSERT INTO "workflow_status" VALUES('dcadd3698641ceed7e1adb9868017f89a0e90505753c9e8b6f030e5271658cde','PENDING','enrich',NULL,NULL,NULL,NULL,NULL,NULL,'worker-0',1796004823000,1796004824000,'steps-1',NULL,NULL,NULL,1,'enrich',NULL,NULL,NULL,1796004824000,NULL,0,NULL,NULL,'503de000-a38b-457d-87c0-b4db58f14422',NULL,'portable_json',NULL,0,0,NULL,'null',NULL,NULL,0,'enrich','1297eda3-994a-4d64-8a99-1851f759cf1e');
INSERT INTO "workflow_status" VALUES('bf18731072618d8ab3f6de0fed058ed242703567b0a8fe38b5fc4d597c789769','ENQUEUED','enrich',NULL,NULL,NULL,NULL,NULL,NULL,NULL,1796004823000,1796004823000,'steps-1',NULL,NULL,NULL,0,'enrich',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,'portable_json',NULL,0,0,NULL,'null',NULL,NULL,0,NULL,'bbf79d42-5bd3-487d-b7af-ca733723af9b');
CREATE INDEX workflow_status_created_at_index ON workflow_status (created_at);
CREATE INDEX idx_workflow_topic ON notifications (destination_uuid, topic);
CREATE INDEX "idx_workflow_status_delayed" ON "workflow_status" ("delay_until_epoch_ms") WHERE status = 'DELAYED';
CREATE INDEX "idx_workflow_status_forked_from" ON "workflow_status" ("forked_from") WHERE "forked_from" IS NOT NULL;
CREATE INDEX "idx_workflow_status_parent_workflow_id" ON "workflow_status" ("parent_workflow_id") WHERE "parent_workflow_id" IS NOT NULL;
CREATE UNIQUE INDEX "uq_workflow_status_dedup_id" ON "workflow_status" ("queue_name", "deduplication_id") WHERE "deduplication_id" IS NOT NULL;
CREATE INDEX "idx_workflow_status_pending" ON "workflow_status" ("created_at") WHERE "status" = 'PENDING';
CREATE INDEX "idx_workflow_status_failed" ON "workflow_status" ("status", "created_at") WHERE "status" IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED');
CREATE INDEX "idx_workflow_status_rate_limited" ON "workflow_status" ("queue_name", "started_at_epoch_ms") WHERE "rate_limited" = TRUE;
CREATE INDEX "idx_workflow_status_completed_at" ON "workflow_status" ("completed_at") WHERE "completed_at" IS NOT NULL;
CREATE INDEX "idx_workflow_status_started_at" ON "workflow_status" ("started_at_epoch_ms") WHERE "started_at_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_workflow_status_schedule_name" ON "workflow_status" ("schedule_name") WHERE "schedule_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_owner_version"
    ON application_versions ("application_name", "version_name")
    WHERE "application_name" IS NOT NULL;
CREATE UNIQUE INDEX "uq_application_versions_unclaimed_version"
    ON application_versions ("version_name")
    WHERE "application_name" IS NULL;
CREATE INDEX idx_workflow_input_retention
    ON workflow_input (retention_timestamp);
CREATE INDEX idx_workflow_output_retention
    ON workflow_output (retention_timestamp);
CREATE INDEX idx_operation_outputs_retention
    ON operation_outputs (retention_timestamp);
CREATE INDEX "idx_workflow_status_in_flight_v2" ON "workflow_status" ("queue_name", "status", "priority", "created_at", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING');
CREATE INDEX "idx_workflow_status_partition_dequeue_v3" ON "workflow_status" ("queue_name", "status", "queue_partition_key", "priority", "created_at", "workflow_uuid", "application_name") WHERE "status" IN ('ENQUEUED', 'PENDING') AND "queue_partition_key" IS NOT NULL;
CREATE INDEX "idx_operation_outputs_completed_at_function_name_v2" ON "operation_outputs" ("completed_at_epoch_ms", "function_name", "application_name");
CREATE INDEX "idx_workflow_status_deadline" ON "workflow_status" ("workflow_deadline_epoch_ms") WHERE "status" IN ('ENQUEUED', 'PENDING', 'DELAYED') AND "workflow_deadline_epoch_ms" IS NOT NULL;
CREATE INDEX "idx_application_versions_timestamp" ON "application_versions" ("version_timestamp" DESC);
CREATE INDEX "idx_application_versions_owner_timestamp" ON "application_versions" ("application_name", "version_timestamp" DESC);
CREATE INDEX ix_enrichment_decisions_series_instance_uid ON enrichment_decisions (series_instance_uid);
CREATE INDEX ix_enrichment_decisions_job_id ON enrichment_decisions (job_id);
CREATE INDEX ix_enrichment_decisions_state ON enrichment_decisions (state);
COMMIT;
