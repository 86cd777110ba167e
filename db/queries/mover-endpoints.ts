/** Where the movers' file services listen: each mover says so when it starts, and takes it back when it ends. */
import type { Catalog } from '../client.ts'

export interface MoverEndpoint {
  hostId: string
  /** `http://127.0.0.1:…` or `https://…`. */
  filesUrl: string
  /** PEM; `null` without TLS. */
  certificate: string | null
  /** Of the mover process. */
  instanceId: string
}

/** Takes the place of what an earlier mover of this host said. Idempotent. */
export async function recordMoverEndpoint(catalog: Catalog, endpoint: MoverEndpoint): Promise<void> {
  const said = {
    files_url: endpoint.filesUrl,
    certificate: endpoint.certificate,
    instance_id: endpoint.instanceId,
    updated_at: new Date(),
  }
  await catalog
    .insertInto('mover_endpoints')
    .values({ host_id: endpoint.hostId, ...said })
    .onDuplicateKeyUpdate(said)
    .execute()
}

/** `undefined` while no mover of this host serves files. One that was killed still stands here until its successor starts. */
export async function findMoverEndpoint(catalog: Catalog, hostId: string): Promise<MoverEndpoint | undefined> {
  const row = await catalog.selectFrom('mover_endpoints').selectAll().where('host_id', '=', hostId).executeTakeFirst()
  return row && { hostId: row.host_id, filesUrl: row.files_url, certificate: row.certificate, instanceId: row.instance_id }
}

/** Nothing when a newer mover has taken its place. Idempotent. */
export async function removeMoverEndpoint(
  catalog: Catalog,
  { hostId, instanceId }: Pick<MoverEndpoint, 'hostId' | 'instanceId'>,
): Promise<void> {
  await catalog.deleteFrom('mover_endpoints').where('host_id', '=', hostId).where('instance_id', '=', instanceId).execute()
}
