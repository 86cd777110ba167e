/** What an administrator says about a VM of disk images: `{ "disks": [{ "path", "format" } | { "uri" }, …] }`. */
import { basename, extname, isAbsolute, normalize } from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../domain/errors.ts'
import type { JsonObject } from '../../domain/errors.ts'
import type { NbdEndpoint } from '../source.ts'
import { isLoopback, parseNbdUri } from './nbd-uri.ts'

export const imageFormats = ['raw', 'qcow2', 'vmdk', 'vhdx'] as const
export type ImageFormat = (typeof imageFormats)[number]

/** One disk of the configuration, checked and completed. */
export type ImageDisk = FileDisk | NbdDisk

export interface FileDisk {
  type: 'file'
  key: string
  label: string
  format: ImageFormat
  /** Absolute. */
  path: string
}

export interface NbdDisk {
  type: 'nbd'
  key: string
  label: string
  format: 'nbd'
  uri: string
  endpoint: NbdEndpoint
}

const DISKS_MAX = 256
const name = z.string().min(1).max(1024)
const configuration = z.strictObject({
  disks: z
    .array(
      z.union([
        z.strictObject({ key: name.optional(), label: name.optional(), format: z.enum(imageFormats).optional(), path: name }),
        z.strictObject({
          key: name.optional(),
          label: name.optional(),
          format: z.literal(['nbd', 'raw']).optional(),
          uri: name,
        }),
      ]),
    )
    .min(1)
    .max(DISKS_MAX),
})

/**
 * The disks of a configuration, in order. `SOURCE_INVALID` when it is not one.
 * @param tcpHosts hosts besides this one that the administrator allows NBD to be read from.
 */
export function imageDisks(config: JsonObject, tcpHosts: readonly string[] = []): ImageDisk[] {
  const parsed = configuration.safeParse(config)
  if (!parsed.success) throw invalid(describeFirstIssue(parsed.error))
  const disks = parsed.data.disks.map((disk) => ('uri' in disk ? nbdDisk(disk, tcpHosts) : fileDisk(disk)))
  const keys = new Set(disks.map((disk) => disk.key))
  if (keys.size !== disks.length) throw invalid('two disks have the same key: each needs its own')
  return disks
}

/** The configuration with nothing left to defaults, for the manifest. */
export function completeConfig(disks: readonly ImageDisk[]): JsonObject {
  return {
    disks: disks.map(({ key, label, format, ...disk }) => ({
      key,
      label,
      format,
      ...(disk.type === 'file' ? { path: disk.path } : { uri: disk.uri }),
    })),
  }
}

interface GivenNames {
  key?: string | undefined
  label?: string | undefined
}

function fileDisk(given: GivenNames & { path: string; format?: ImageFormat | undefined }): FileDisk {
  if (!isAbsolute(given.path) || given.path.includes('\0')) {
    throw invalid(`the path "${given.path}" is not absolute: give one that begins with "/"`)
  }
  const path = normalize(given.path)
  return {
    type: 'file',
    key: given.key ?? path,
    label: given.label ?? basename(path),
    format: given.format ?? formatByName(path),
    path,
  }
}

function nbdDisk(given: GivenNames & { uri: string }, tcpHosts: readonly string[]): NbdDisk {
  const endpoint = parseNbdUri(given.uri)
  if (endpoint.type === 'tcp' && !isLoopback(endpoint.host) && !tcpHosts.includes(endpoint.host)) {
    throw invalid(
      `NBD from host "${endpoint.host}" is not allowed: it travels unencrypted. Use a unix socket, or let the administrator name the host`,
    )
  }
  return {
    type: 'nbd',
    key: given.key ?? given.uri,
    label: given.label ?? (endpoint.exportName || 'default export'),
    format: 'nbd',
    uri: given.uri,
    endpoint,
  }
}

const formatByExtension: Readonly<Record<string, ImageFormat>> = {
  '.raw': 'raw',
  '.img': 'raw',
  '.qcow2': 'qcow2',
  '.vmdk': 'vmdk',
  '.vhdx': 'vhdx',
}

/** By the name alone. The content is the guest's: a guest that writes a QCOW2 header into its raw disk must not choose how we read it. */
function formatByName(path: string): ImageFormat {
  const format = formatByExtension[extname(path).toLowerCase()]
  if (format) return format
  throw invalid(`the format of "${path}" does not follow from its name: give "format", one of ${imageFormats.join(', ')}`)
}

function describeFirstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  return issue ? `${issue.path.join('.') || 'config'}: ${issue.message}` : 'not a configuration'
}

function invalid(reason: string): HoldfastError {
  return new HoldfastError('SOURCE_INVALID', `The disk images of the VM cannot be used: ${reason}.`, { details: { reason } })
}
