/** Connections to platforms with VMs of their own, their sealed credentials, and what their backups have to say. Safe to run again after a crash half-way. */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Database } from '../schema.ts'

const kind = 'engine=InnoDB default charset=utf8mb4 collate=utf8mb4_nopad_bin'

const steps = [
  `create table if not exists sealed_credentials (
    id varchar(64) not null primary key,
    sealed varbinary(16384) not null,
    created_at datetime(3) not null default current_timestamp(3)
  ) ${kind}`,

  `create table if not exists sources (
    id varchar(64) not null primary key,
    name varchar(255) not null,
    source_type enum('disk-image', 'libvirt', 'vsphere') not null,
    config json not null,
    credentials_id varchar(64) null,
    host_id varchar(191) not null,
    max_concurrent_backups int not null default 4,
    status enum('untested', 'reachable', 'unreachable') not null default 'untested',
    version varchar(255) null,
    hostname varchar(255) null,
    warnings json not null default '[]',
    error_code varchar(64) null,
    error_message text null,
    last_tested_at datetime(3) null,
    last_discovered_at datetime(3) null,
    created_at datetime(3) not null default current_timestamp(3),
    updated_at datetime(3) not null default current_timestamp(3) on update current_timestamp(3),
    unique key unique_name (name),
    key by_host (host_id),
    constraint sources_have_credentials foreign key (credentials_id) references sealed_credentials (id) on delete restrict
  ) ${kind}`,

  `alter table vm_contexts
    add column if not exists source_id varchar(64) null after host_id,
    add column if not exists external_id varchar(191) null after source_id,
    add column if not exists last_seen_at datetime(3) null after os_type,
    add column if not exists restored_in_place_at datetime(3) null after last_seen_at,
    add unique key if not exists unique_in_source (source_id, external_id)`,

  `alter table vm_contexts
    add constraint foreign key if not exists vm_contexts_of_source (source_id) references sources (id) on delete restrict`,

  `alter table vm_disks
    add column if not exists path varchar(4096) null after format`,

  `alter table backup_disks
    add column if not exists full_reason_detail text null after full_reason`,

  `alter table backup_jobs
    add column if not exists consistency_reason text null after consistency,
    add column if not exists warnings json not null default '[]' after consistency_reason,
    add column if not exists source_slot_at datetime(3) null after workflow_id`,
]

export async function up(catalog: Kysely<Database>): Promise<void> {
  for (const step of steps) await sql.raw(step).execute(catalog)
}

export async function down(catalog: Kysely<Database>): Promise<void> {
  await sql`alter table backup_disks drop column if exists full_reason_detail`.execute(catalog)
  await sql`alter table vm_disks drop column if exists path`.execute(catalog)
  await sql`alter table backup_jobs drop column if exists source_slot_at, drop column if exists warnings, drop column if exists consistency_reason`.execute(
    catalog,
  )
  await sql`alter table vm_contexts drop foreign key if exists vm_contexts_of_source`.execute(catalog)
  await sql`alter table vm_contexts drop key if exists unique_in_source, drop column if exists source_id,
    drop column if exists external_id, drop column if exists last_seen_at, drop column if exists restored_in_place_at`.execute(
    catalog,
  )
  await sql`drop table if exists sources`.execute(catalog)
  await sql`drop table if exists sealed_credentials`.execute(catalog)
}
