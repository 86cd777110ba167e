/** Restore mounts, where the movers serve their files, and the audit trail. Safe to run again after a crash half-way. */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Database } from '../schema.ts'

const kind = 'engine=InnoDB default charset=utf8mb4 collate=utf8mb4_nopad_bin'

const steps = [
  `create table if not exists restore_mounts (
    id varchar(64) not null primary key,
    backup_id varchar(64) not null,
    backup_disk_id bigint not null,
    disk_index int not null,
    host_id varchar(191) not null,
    driver enum('user-mode-linux', 'kernel', 'kernel-nbd') null,
    status enum('mounting', 'mounted', 'unmounting') not null default 'mounting',
    mount_path varchar(4096) not null default '',
    nbd_device varchar(4096) not null default '',
    filesystem_type varchar(255) not null default '',
    volumes json not null default '[]',
    idle_seconds int not null,
    maximum_seconds int not null,
    last_access_at datetime(3) not null default current_timestamp(3),
    workflow_id varchar(191) not null,
    created_at datetime(3) not null default current_timestamp(3),
    unique key one_per_disk (backup_id, disk_index),
    key by_time (created_at, id),
    key by_disk (backup_disk_id),
    constraint restore_mounts_have_a_disk foreign key (backup_disk_id) references backup_disks (id) on delete cascade
  ) ${kind}`,

  `create table if not exists mover_endpoints (
    host_id varchar(191) not null primary key,
    files_url varchar(255) not null,
    certificate text null,
    instance_id varchar(64) not null,
    updated_at datetime(3) not null default current_timestamp(3) on update current_timestamp(3)
  ) ${kind}`,

  `create table if not exists audit_events (
    id bigint not null auto_increment primary key,
    at datetime(3) not null default current_timestamp(3),
    user_id varchar(64) not null,
    username varchar(255) not null,
    action varchar(64) not null,
    subject_type varchar(64) not null,
    subject_id varchar(191) not null,
    details json not null default '{}',
    request_id varchar(64) not null,
    remote_address varchar(64) null,
    key by_time (at, id),
    key by_user (username, at, id),
    key by_action (action, at, id),
    key by_subject (subject_id, at, id)
  ) ${kind}`,
]

export async function up(catalog: Kysely<Database>): Promise<void> {
  for (const step of steps) await sql.raw(step).execute(catalog)
}

/** Forgets the audit trail. */
export async function down(catalog: Kysely<Database>): Promise<void> {
  await sql`drop table if exists restore_mounts, mover_endpoints, audit_events`.execute(catalog)
}
