/**
 * The founding tables. Safe to run again after a crash half-way: MariaDB makes each table whole or not at all, and those that exist are
 * left alone. Text is compared exactly (`utf8mb4_nopad_bin`): a name that differs only in case or a trailing space is another name.
 * Why each reference cascades or restricts: docs/decisions/0010-catalog-references.md.
 */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Database } from '../schema.ts'

const kind = 'engine=InnoDB default charset=utf8mb4 collate=utf8mb4_nopad_bin'

/** In an order in which every table refers only to earlier ones. */
const tables = [
  `create table if not exists users (
    id varchar(64) not null primary key,
    username varchar(191) not null,
    password_hash varchar(255) not null,
    role enum('admin', 'operator', 'viewer') not null,
    created_at datetime(3) not null default current_timestamp(3),
    unique key unique_username (username)
  ) ${kind}`,

  `create table if not exists backup_repositories (
    id varchar(64) not null primary key,
    name varchar(255) not null,
    repository_type enum('local', 'nfs', 'cifs', 'smb', 's3') not null,
    enabled tinyint(1) not null default 1,
    config json not null,
    host_id varchar(191) not null,
    total_size_bytes bigint not null default 0,
    used_size_bytes bigint not null default 0,
    available_size_bytes bigint not null default 0,
    last_check_at datetime(3) null,
    created_at datetime(3) not null default current_timestamp(3),
    updated_at datetime(3) not null default current_timestamp(3) on update current_timestamp(3),
    unique key unique_name (name),
    key by_type (repository_type),
    key by_enabled (enabled)
  ) ${kind}`,

  `create table if not exists vm_contexts (
    context_id varchar(191) not null primary key,
    vm_name varchar(255) not null,
    source_type enum('disk-image', 'libvirt', 'vsphere') not null,
    config json not null,
    host_id varchar(191) not null,
    current_status varchar(32) not null default 'ready',
    power_state enum('on', 'off', 'unknown') not null default 'unknown',
    cpu_count int null,
    memory_mb int null,
    os_type varchar(64) null,
    created_at datetime(3) not null default current_timestamp(3),
    updated_at datetime(3) not null default current_timestamp(3) on update current_timestamp(3),
    key by_name (vm_name, context_id),
    key by_time (created_at, context_id)
  ) ${kind}`,

  `create table if not exists vm_disks (
    vm_context_id varchar(191) not null,
    disk_index int not null,
    disk_key varchar(700) not null,
    label varchar(255) not null,
    format varchar(32) not null,
    size_bytes bigint not null,
    primary key (vm_context_id, disk_index),
    unique key unique_disk_key (vm_context_id, disk_key),
    constraint vm_disks_of_vm foreign key (vm_context_id) references vm_contexts (context_id) on delete cascade
  ) ${kind}`,

  `create table if not exists backup_jobs (
    id varchar(64) not null primary key,
    vm_context_id varchar(191) not null,
    vm_name varchar(255) not null,
    repository_id varchar(64) not null,
    policy_id varchar(64) null,
    requested_type enum('full', 'incremental') not null,
    backup_type enum('full', 'incremental') not null,
    full_reason varchar(64) null,
    full_reason_detail text null,
    status enum('pending', 'running', 'completed', 'failed', 'cancelled') not null default 'pending',
    repository_path varchar(512) not null,
    parent_backup_id varchar(64) null,
    consistency enum('application', 'filesystem', 'crash') null,
    compression enum('zstd', 'none') not null,
    total_bytes bigint not null default 0,
    processed_bytes bigint not null default 0,
    bytes_transferred bigint not null default 0,
    size_bytes bigint not null default 0,
    rate_limit_bytes_per_second bigint null,
    verification_status enum('unverified', 'passed', 'failed') not null default 'unverified',
    verified_at datetime(3) null,
    verification_message text null,
    error_code varchar(64) null,
    error_message text null,
    workflow_id varchar(255) not null,
    created_at datetime(3) not null default current_timestamp(3),
    started_at datetime(3) null,
    completed_at datetime(3) null,
    key by_vm (vm_context_id, created_at, id),
    key by_vm_and_status (vm_context_id, status, created_at),
    key by_vm_and_repository (vm_context_id, repository_id, created_at, id),
    key by_repository (repository_id, created_at, id),
    key by_status (status, created_at, id),
    key by_time (created_at, id),
    key by_type (backup_type, created_at, id),
    key by_name (vm_name, created_at, id),
    key by_parent (parent_backup_id),
    constraint backup_jobs_of_vm foreign key (vm_context_id) references vm_contexts (context_id) on delete cascade,
    constraint backup_jobs_in_repository foreign key (repository_id) references backup_repositories (id) on delete restrict,
    constraint backup_jobs_need_parent foreign key (parent_backup_id) references backup_jobs (id) on delete restrict,
    constraint completed_backup_knows_its_chain check (
      status <> 'completed'
      or (backup_type = 'full' and parent_backup_id is null and full_reason is not null)
      or (backup_type = 'incremental' and parent_backup_id is not null)
    ),
    constraint completed_backup_has_its_time check (status <> 'completed' or completed_at is not null)
  ) ${kind}`,

  `create table if not exists backup_disks (
    id bigint not null auto_increment primary key,
    backup_job_id varchar(64) not null,
    disk_index int not null,
    disk_key varchar(700) not null,
    label varchar(255) not null,
    backup_type enum('full', 'incremental') not null,
    full_reason varchar(64) null,
    qcow2_path varchar(4096) not null,
    size_bytes bigint not null,
    file_size_bytes bigint not null default 0,
    processed_bytes bigint not null default 0,
    bytes_transferred bigint not null default 0,
    rate_bytes_per_second bigint not null default 0,
    resumed_at_bytes bigint not null default 0,
    attempt int not null default 0,
    disk_change_id varchar(1024) null,
    blocks_sha256 char(64) null,
    status enum('pending', 'running', 'completed', 'failed', 'cancelled') not null default 'pending',
    error_message text null,
    progress_at datetime(3) null,
    completed_at datetime(3) null,
    unique key unique_disk (backup_job_id, disk_index),
    constraint backup_disks_of_backup foreign key (backup_job_id) references backup_jobs (id) on delete cascade
  ) ${kind}`,

  `create table if not exists backup_chains (
    id varchar(64) not null primary key,
    vm_context_id varchar(191) not null,
    repository_id varchar(64) not null,
    disk_id int not null,
    full_backup_id varchar(64) not null,
    latest_backup_id varchar(64) not null,
    total_backups int not null default 0,
    total_size_bytes bigint not null default 0,
    created_at datetime(3) not null default current_timestamp(3),
    updated_at datetime(3) not null default current_timestamp(3) on update current_timestamp(3),
    unique key unique_full_and_disk (full_backup_id, disk_id),
    key by_vm_and_disk (vm_context_id, disk_id, created_at),
    key by_repository (repository_id),
    key by_latest (latest_backup_id),
    constraint backup_chains_of_vm foreign key (vm_context_id) references vm_contexts (context_id) on delete cascade,
    constraint backup_chains_in_repository foreign key (repository_id) references backup_repositories (id) on delete restrict,
    constraint backup_chains_on_full foreign key (full_backup_id) references backup_jobs (id) on delete cascade,
    constraint backup_chains_to_latest foreign key (latest_backup_id) references backup_jobs (id) on delete cascade
  ) ${kind}`,

  `create table if not exists backup_pins (
    backup_id varchar(64) not null,
    owner_workflow_id varchar(255) not null,
    reason varchar(255) not null,
    created_at datetime(3) not null default current_timestamp(3),
    primary key (backup_id, owner_workflow_id),
    key by_owner (owner_workflow_id),
    constraint backup_pins_hold_backup foreign key (backup_id) references backup_jobs (id) on delete restrict
  ) ${kind}`,

  `create table if not exists restore_jobs (
    id varchar(64) not null primary key,
    backup_id varchar(64) not null,
    vm_name varchar(255) not null,
    disk_index int not null,
    target_path varchar(4096) not null,
    target_format enum('raw', 'qcow2') not null,
    status enum('pending', 'running', 'completed', 'failed', 'cancelled') not null default 'pending',
    total_bytes bigint not null default 0,
    processed_bytes bigint not null default 0,
    rate_bytes_per_second bigint not null default 0,
    resumed_at_bytes bigint not null default 0,
    error_code varchar(64) null,
    error_message text null,
    workflow_id varchar(255) not null,
    created_at datetime(3) not null default current_timestamp(3),
    started_at datetime(3) null,
    completed_at datetime(3) null,
    -- Two restores that write one file would each ruin the other's.
    target_in_use char(64) as (if(status in ('pending', 'running'), sha2(target_path, 256), null)) stored,
    unique key one_restore_per_target (target_in_use),
    key by_backup (backup_id, created_at),
    key by_status (status, created_at, id),
    key by_time (created_at, id)
  ) ${kind}`,

  `create table if not exists idempotency_keys (
    user_id varchar(64) not null,
    idempotency_key varchar(191) not null,
    request_sha256 char(64) not null,
    status_code smallint null,
    response json null,
    created_at datetime(3) not null default current_timestamp(3),
    primary key (user_id, idempotency_key),
    key by_time (created_at),
    constraint idempotency_keys_of_user foreign key (user_id) references users (id) on delete cascade
  ) ${kind}`,
]

export async function up(catalog: Kysely<Database>): Promise<void> {
  for (const table of tables) await sql.raw(table).execute(catalog)
}

/** Drops every table, and with them the whole catalog. The repositories' manifests are untouched. */
export async function down(catalog: Kysely<Database>): Promise<void> {
  const names = tables.map((table) => table.split(' ', 6)[5]).toReversed()
  for (const name of names) await sql`drop table if exists ${sql.table(name ?? '')}`.execute(catalog)
}
