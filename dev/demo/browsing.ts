/** The chapter about single files: both points are mounted, browsed and read from, without restoring a disk. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import type { ApiClient } from './api-client.ts'
import type { DemoDisk } from './demo-vm.ts'
import { copyExt4File } from './ext4.ts'
import { rateText, secondsText } from './narrator.ts'
import type { Narrator } from './narrator.ts'

const mountAnswer = z.object({ mount_id: z.string(), filesystem_type: z.string(), expires_at: z.string() })
const filesAnswer = z.object({ files: z.array(z.object({ name: z.string() })), total_count: z.number() })
const unmountAnswer = z.object({ message: z.string() })

const DATABASE = '/srv/database.bin'

export interface Point {
  name: string
  backupId: string
  /** Raw image of what the guest saw then. */
  truth: string
}

/** Whether every file was what the guest had written. */
export async function browsePoints(
  { api, narrator, folder }: { api: ApiClient; narrator: Narrator; folder: string },
  disk: DemoDisk,
  points: readonly [full: Point, incremental: Point],
): Promise<boolean> {
  narrator.step('Single files, straight from the backups')
  const held: boolean[] = []
  const motd: string[] = []
  const logs: string[][] = []
  for (const point of points) {
    const mountId = await mount(api, narrator, point, disk.index)
    const { files } = await api.call('GET', `/restore/${mountId}/files?path=/var/log`, filesAnswer)
    logs.push(files.map((file) => file.name))
    motd.push(await (await download(api, mountId, '/etc/motd')).text())
    held.push(await compareDatabase({ api, narrator, folder }, disk, point, mountId))
    narrator.fact((await api.call('DELETE', `/restore/${mountId}`, unmountAnswer)).message)
  }
  narrator.fact(`/etc/motd reads "${motd[0]?.trim()}" in the full and "${motd[1]?.trim()}" in the incremental`)
  narrator.fact(`/var/log holds [${logs[0]?.join(', ')}] in the full and [${logs[1]?.join(', ')}] in the incremental`)
  held.push(motd[0] === 'first light\n', motd[1] === 'second light\n')
  held.push(logs[0]!.includes('web.log'), !logs[1]!.includes('web.log'))
  return held.every(Boolean)
}

async function mount(api: ApiClient, narrator: Narrator, point: Point, diskIndex: number): Promise<string> {
  const started = Date.now()
  const request = { backup_id: point.backupId, disk_index: diskIndex }
  const answer = await api.call('POST', '/restore/mount', mountAnswer, request)
  const { total_count: names } = await api.call('GET', `/restore/${answer.mount_id}/files?path=/`, filesAnswer)
  const took = secondsText(Date.now() - started)
  narrator.fact(
    `${point.name}: disk ${diskIndex} (${answer.filesystem_type}) mounted and its root listed (${names} names) in ${took}`,
  )
  return answer.mount_id
}

function download(api: ApiClient, mountId: string, path: string): Promise<Response> {
  return api.open(`/restore/${mountId}/download?path=${encodeURIComponent(path)}`)
}

async function compareDatabase(
  { api, narrator, folder }: { api: ApiClient; narrator: Narrator; folder: string },
  disk: DemoDisk,
  point: Point,
  mountId: string,
): Promise<boolean> {
  const original = join(folder, `database-${point.name}.bin`)
  await copyExt4File({ ...disk.root, image: point.truth }, DATABASE, original)
  const expected = await sha256Of(createReadStream(original))
  const started = Date.now()
  const { body, headers } = await download(api, mountId, DATABASE)
  const found = await sha256Of(body ?? [])
  const rate = rateText(Number(headers.get('content-length')), Date.now() - started)
  const verdict = found === expected ? 'its SHA-256 is the original’s' : 'IT DIFFERS FROM THE ORIGINAL'
  narrator.fact(`${point.name}: ${DATABASE} downloaded at ${rate}; ${verdict}`)
  return found === expected
}

async function sha256Of(content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(content, hash)
  return hash.digest('hex')
}
