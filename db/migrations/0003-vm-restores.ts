/** Restores of whole VMs: a row for the restore, which writes no file itself, and one below it for each disk. Safe to run again after a crash half-way. */
import { sql } from 'kysely'
import type { Kysely } from 'kysely'
import type { Database } from '../schema.ts'

const step = `alter table restore_jobs
  add column if not exists parent_restore_id varchar(64) null after id,
  add column if not exists target_type enum('file', 'libvirt', 'original') not null default 'file' after vm_name,
  add column if not exists target json null after target_type,
  add column if not exists final_path varchar(4096) null after target_path,
  add column if not exists external_id varchar(191) null after final_path,
  add column if not exists warnings json not null default '[]' after external_id,
  modify column disk_index int null,
  modify column target_path varchar(4096) null,
  modify column target_format enum('raw', 'qcow2') null,
  add key if not exists by_parent (parent_restore_id, disk_index)`

export async function up(catalog: Kysely<Database>): Promise<void> {
  await sql.raw(step).execute(catalog)
}

/** Forgets the restores of whole VMs. */
export async function down(catalog: Kysely<Database>): Promise<void> {
  await sql`delete from restore_jobs where target_path is null`.execute(catalog)
  await sql`alter table restore_jobs drop key if exists by_parent, drop column if exists parent_restore_id, drop column if exists target_type,
    drop column if exists target, drop column if exists final_path, drop column if exists external_id, drop column if exists warnings,
    modify column disk_index int not null, modify column target_path varchar(4096) not null,
    modify column target_format enum('raw', 'qcow2') not null`.execute(catalog)
}
