/**
 * Checkpoints of a domain that is shut off. libvirt makes and removes them with running QEMUs only; here its half (the metadata) and the
 * image's half (the bitmap) are done one after the other, in an order that every interruption can be repaired from.
 *
 * Every checkpoint has a bitmap of its own that stays enabled, so each holds all that changed since (libvirt 9.0): none depends on another.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DomainContext } from './domain-context.ts'
import { checkpointDescription } from './names.ts'
import { escapeXml } from './xml-nodes.ts'

type DomainAt = Pick<DomainContext, 'connection' | 'uuid'>

interface Options {
  signal?: AbortSignal | undefined
}

/** The checkpoint that a new one comes after; `null` when there is none. */
export async function youngestCheckpoint({ connection, uuid }: DomainAt, options: Options): Promise<string | null> {
  // Parents before children.
  const list = await connection.ask(['checkpoint-list', uuid, '--name', '--topological'], options)
  return list.split('\n').findLast((line) => line.trim() !== '') ?? null
}

/** Tells libvirt of a checkpoint whose bitmaps are there already, as the youngest. */
export async function tellCheckpoint(
  { connection, uuid }: DomainAt,
  checkpoint: { name: string; targets: readonly string[]; parent: string | null },
  options: Options,
): Promise<void> {
  const domainXml = await connection.ask(['dumpxml', uuid, '--inactive'], options)
  const folder = join(connection.runFolder, `xml-${randomBytes(5).toString('hex')}`)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const file = join(folder, 'checkpoint.xml')
    await writeFile(
      file,
      redefinitionXml({ ...checkpoint, description: checkpointDescription(connection) }, domainXml, new Date()),
      { mode: 0o600 },
    )
    await connection.ask(['checkpoint-create', uuid, file, '--redefine'], options)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** libvirt wants the domain as it was at the checkpoint; it only looks at its disks. */
export function redefinitionXml(
  {
    name,
    description,
    targets,
    parent,
  }: { name: string; description: string; targets: readonly string[]; parent: string | null },
  domainXml: string,
  createdAt: Date,
): string {
  const bitmap = escapeXml(name)
  const disks = targets.map((target) => `<disk name='${escapeXml(target)}' checkpoint='bitmap' bitmap='${bitmap}'/>`)
  return [
    `<domaincheckpoint><name>${bitmap}</name><description>${escapeXml(description)}</description>`,
    ...(parent === null ? [] : [`<parent><name>${escapeXml(parent)}</name></parent>`]),
    `<creationTime>${Math.floor(createdAt.getTime() / 1000)}</creationTime>`,
    `<disks>${disks.join('')}</disks>`,
    `${domainXml.replace(/^\s*<\?xml.*?\?>/, '')}</domaincheckpoint>`,
  ].join('\n')
}

/** libvirt's half only; children become children of the parent. */
export async function forgetCheckpoint({ connection, uuid }: DomainAt, name: string, options: Options): Promise<void> {
  await connection.ask(['checkpoint-delete', uuid, name, '--metadata'], options)
}
