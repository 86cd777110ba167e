/** What a backup keeps of a domain, so that it can be defined again. */
import type { JsonObject } from '../../domain/errors.ts'
import type { SourceDisk } from '../source.ts'
import type { DomainContext } from './domain-context.ts'

/**
 * `{ uuid, name, domain_xml, nvram_path, disks: [{ target, path, format, source_type, size_bytes }] }`. The XML is the definition that the
 * next start uses; passwords are not in it.
 */
export async function vmConfigOf(
  { connection, uuid, domain, state, included }: DomainContext,
  disks: readonly SourceDisk[],
  options: { signal?: AbortSignal | undefined },
): Promise<JsonObject> {
  // A transient domain has no definition; what may migrate is the nearest to one.
  const form = state.persistent ? '--inactive' : '--migratable'
  const xml = await connection.ask(['dumpxml', uuid, form], options)
  const sizes = new Map(disks.map(({ key, sizeBytes }) => [key, sizeBytes]))
  return {
    uuid,
    name: domain.name,
    domain_xml: xml,
    nvram_path: domain.nvramPath,
    disks: included.map(({ target, path, format, sourceType }) => ({
      target,
      path,
      format,
      source_type: sourceType,
      size_bytes: sizes.get(target) ?? null,
    })),
  }
}
