/** Shares, health, alerts, reservations, parked backups and locks. Safe to run again after a crash half-way. */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Database } from '../schema.ts'

const kind = 'engine=InnoDB default charset=utf8mb4 collate=utf8mb4_nopad_bin'

const steps = [
  `alter table backup_repositories
    add column if not exists credentials_id varchar(64) null after host_id,
    add column if not exists auto_mount tinyint(1) not null default 1 after credentials_id,
    add column if not exists total_inodes bigint not null default 0 after available_size_bytes,
    add column if not exists used_inodes bigint not null default 0 after total_inodes,
    add column if not exists latency_ms int null after last_check_at,
    add column if not exists health enum('unknown', 'healthy', 'warning', 'critical', 'offline') not null default 'unknown' after latency_ms,
    add column if not exists health_message text null after health,
    add column if not exists health_since datetime(3) null after health_message,
    add column if not exists stopped_at datetime(3) null after health_since,
    add column if not exists warning_percent tinyint unsigned null after stopped_at,
    add column if not exists critical_percent tinyint unsigned null after warning_percent,
    add column if not exists is_immutable tinyint(1) not null default 0 after critical_percent,
    add column if not exists immutable_method enum('linux_chattr') null after is_immutable,
    add column if not exists retention_period_days int null after immutable_method,
    add column if not exists min_retention_days int null after retention_period_days,
    add column if not exists enforced_by enum('chattr', 'none') null after min_retention_days,
    add column if not exists enforcement_reason text null after enforced_by,
    add column if not exists attested_at datetime(3) null after enforcement_reason,
    add key if not exists by_health (health),
    add constraint foreign key if not exists repositories_have_credentials (credentials_id)
      references sealed_credentials (id) on delete restrict`,

  `alter table backup_jobs
    add column if not exists parked_reason enum('repository_full', 'repository_unavailable') null after source_slot_at,
    add column if not exists parked_at datetime(3) null after parked_reason,
    add column if not exists parked_message text null after parked_at,
    add column if not exists locked_until datetime(3) null after parked_message`,

  `alter table backup_disks add column if not exists parked_at datetime(3) null after error_message`,

  `create table if not exists repository_samples (
    repository_id varchar(64) not null,
    sampled_at datetime(3) not null,
    total_bytes bigint not null,
    used_bytes bigint not null,
    available_bytes bigint not null,
    used_inodes bigint not null,
    total_inodes bigint not null,
    latency_ms int null,
    health enum('unknown', 'healthy', 'warning', 'critical', 'offline') not null,
    primary key (repository_id, sampled_at),
    key by_time (sampled_at),
    constraint samples_of_repository foreign key (repository_id) references backup_repositories (id) on delete cascade
  ) ${kind}`,

  `create table if not exists repository_reservations (
    backup_id varchar(64) not null primary key,
    repository_id varchar(64) not null,
    reserved_bytes bigint not null,
    created_at datetime(3) not null default current_timestamp(3),
    key by_repository (repository_id),
    constraint reservations_of_backup foreign key (backup_id) references backup_jobs (id) on delete cascade,
    constraint reservations_in_repository foreign key (repository_id) references backup_repositories (id) on delete cascade
  ) ${kind}`,

  `create table if not exists alerts (
    id varchar(64) not null primary key,
    kind varchar(64) not null,
    cause varchar(191) not null,
    severity enum('warning', 'critical') not null,
    repository_id varchar(64) null,
    backup_id varchar(64) null,
    message text not null,
    details json not null default '{}',
    opened_at datetime(3) not null,
    seen_at datetime(3) not null,
    acknowledged_at datetime(3) null,
    acknowledged_by varchar(255) null,
    resolved_at datetime(3) null,
    open_cause varchar(191) as (if(resolved_at is null, cause, null)) persistent,
    unique key one_open_per_cause (open_cause),
    key by_time (opened_at, id),
    key by_repository (repository_id, opened_at),
    constraint alerts_of_repository foreign key (repository_id) references backup_repositories (id) on delete cascade,
    constraint alerts_of_backup foreign key (backup_id) references backup_jobs (id) on delete cascade
  ) ${kind}`,
]

export async function up(catalog: Kysely<Database>): Promise<void> {
  for (const step of steps) await sql.raw(step).execute(catalog)
}

export async function down(catalog: Kysely<Database>): Promise<void> {
  await sql`drop table if exists alerts`.execute(catalog)
  await sql`drop table if exists repository_reservations`.execute(catalog)
  await sql`drop table if exists repository_samples`.execute(catalog)
  await sql`alter table backup_jobs drop column if exists parked_reason, drop column if exists parked_at,
    drop column if exists parked_message, drop column if exists locked_until`.execute(catalog)
  await sql`alter table backup_disks drop column if exists parked_at`.execute(catalog)
  await sql`alter table backup_repositories drop foreign key if exists repositories_have_credentials`.execute(catalog)
  await sql`alter table backup_repositories drop key if exists by_health, drop column if exists credentials_id,
    drop column if exists auto_mount, drop column if exists total_inodes, drop column if exists used_inodes,
    drop column if exists latency_ms, drop column if exists health, drop column if exists health_message,
    drop column if exists health_since, drop column if exists stopped_at, drop column if exists warning_percent,
    drop column if exists critical_percent, drop column if exists is_immutable, drop column if exists immutable_method,
    drop column if exists retention_period_days, drop column if exists min_retention_days, drop column if exists enforced_by,
    drop column if exists enforcement_reason, drop column if exists attested_at`.execute(catalog)
}
