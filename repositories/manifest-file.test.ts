import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HoldfastError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/errors.ts'
import type { ManifestDisk } from '../domain/manifest.ts'
import { parseManifest, renderManifest } from './manifest-file.ts'
import { sampleManifest, sampleReference } from './sample-backup.ts'

const parent = sampleReference(1)
const incremental = sampleManifest(sampleReference(2), parent)
const bytes = Buffer.from(renderManifest(incremental))
const corrupt = expect.objectContaining({ code: 'BACKUP_CORRUPT' })

describe('the manifest file', () => {
  it('reads what it wrote, whatever the source put into the configuration', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), (config) => {
        fc.pre(!JSON.stringify(config).includes('__proto__'))
        const manifest = { ...incremental, vm: { ...incremental.vm, config: asJson(config) } }
        expect(parseManifest(Buffer.from(renderManifest(manifest)), 'm')).toEqual(manifest)
      }),
    )
    // A hundred configurations of any size: seconds on a busy machine.
  }, 60_000)

  it('is JSON that people and other tools can read', () => {
    expect(JSON.parse(bytes.toString())).toMatchObject(incremental)
    expect(bytes.toString()).toMatch(/,\n {2}"checksum": "[0-9a-f]{64}"\n}\n$/)
  })

  it('finds every flipped bit', () => {
    const unnoticed: string[] = []
    for (let position = 0; position < bytes.length; position += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        const flipped = Buffer.from(bytes)
        flipped[position] = (flipped[position] ?? 0) ^ (1 << bit)
        if (refusal(flipped) !== 'BACKUP_CORRUPT') unnoticed.push(`bit ${bit} of byte ${position}`)
      }
    }
    expect(unnoticed).toEqual([])
  })

  it('finds every cut, and every byte too much', () => {
    const cuts = Array.from({ length: bytes.length }, (_, length) => bytes.subarray(0, length))
    const unnoticed = [...cuts, Buffer.concat([bytes, Buffer.from('\n')])].filter((text) => refusal(text) !== 'BACKUP_CORRUPT')
    expect(unnoticed).toEqual([])
    expect(refusal(bytes)).toBeNull()
  })

  it('says that a newer Holdfast is needed for an unknown version', () => {
    const newer = rendered({ format_version: 2 })
    expect(() => parseManifest(newer, '/repo/manifest.json')).toThrow(/holdfast-backup version 2.*newer Holdfast/s)
  })
})

describe('a manifest that contradicts itself', () => {
  const disk = (members: object): object => ({ disks: [{ ...incremental.disks[0], ...members }] })
  const cases: [string, object][] = [
    ['a backing file outside the repository', disk({ backing_file: '../../../../etc/shadow' })],
    ['an absolute backing file', disk({ backing_file: '/etc/shadow' })],
    ['a json: backing file', disk({ backing_file: 'json:{"driver":"nbd"}' })],
    [
      'a backing file of another backup than the parent',
      disk({ backing_file: `../${sampleReference(9).backupId}/disk-0.qcow2` }),
    ],
    ['an incremental disk without backing file', disk({ backing_file: null })],
    ['a full disk with backing file', disk({ backup_type: 'full', full_reason: 'disk_added' })],
    ['a full disk without a reason', disk({ backup_type: 'full', backing_file: null })],
    ['a disk file elsewhere', disk({ file: '../disk-0.qcow2' })],
    ['a blocks file of another disk', disk({ blocks_file: 'disk-1.blocks' })],
    ['a negative size', disk({ size_bytes: -1 })],
    ['a size that a double cannot hold', disk({ size_bytes: 2 ** 53 })],
    ['a hash that is none', disk({ blocks_sha256: 'abc' })],
    ['an unknown member', { surprise: true }],
    ['no disks', { disks: [] }],
    ['two disks of one index', { disks: [incremental.disks[0], { ...incremental.disks[0], key: 'other' }] }],
    ['two disks of one key', { disks: [incremental.disks[0], { ...incremental.disks[1], key: incremental.disks[0]?.key }] }],
    ['an id that is a path', { backup_id: '../x' }],
    ['itself as parent', { parent_backup_id: incremental.backup_id }],
    ['an incremental without parent', { parent_backup_id: null }],
    ['a full reason of an incremental', { full_reason: 'requested' }],
    ['a time without zone', { snapshot_at: '2026-01-01T00:00:00' }],
    ['an unknown source', { vm: { ...incremental.vm, source_type: 'hyper' } }],
  ]
  it.each(cases)('is refused when read and when written: %s', (_, members) => {
    expect(() => parseManifest(rendered(members), 'm')).toThrow(corrupt)
    expect(() => renderManifest({ ...incremental, ...members })).toThrow(expect.objectContaining({ code: 'INTERNAL' }))
  })

  it('accepts an incremental with a disk that had to be a full', () => {
    const added: ManifestDisk = { ...sampleManifest(sampleReference(2), null).disks[1]!, full_reason: 'disk_added' }
    const manifest = { ...incremental, disks: [incremental.disks[0]!, added] }
    expect(parseManifest(Buffer.from(renderManifest(manifest)), 'm')).toEqual(manifest)
  })
})

/** What another program would write with a right checksum. */
function rendered(members: object): Buffer {
  const body = `${JSON.stringify({ ...incremental, ...members }, null, 2).slice(0, -2)},\n`
  const checksum = createHash('sha256').update(body).digest('hex')
  return Buffer.from(`${body}  "checksum": "${checksum}"\n}\n`)
}

/** Without what JSON cannot hold, such as -0. */
function asJson(value: unknown): JsonObject {
  const plain: JsonObject = JSON.parse(JSON.stringify(value))
  return plain
}

/** The code that reading fails with; `null` when it does not fail. */
function refusal(text: Buffer): string | null {
  try {
    parseManifest(text, 'm')
    return null
  } catch (error) {
    return error instanceof HoldfastError ? error.code : String(error)
  }
}
