/** NBD URIs as an administrator writes them: `nbd://host:port/export` and `nbd+unix:///export?socket=/path`. */
import { isAbsolute } from 'node:path'
import { HoldfastError } from '../../domain/errors.ts'
import type { NbdEndpoint } from '../source.ts'

/** The port that IANA gave to NBD. */
const DEFAULT_PORT = 10_809

/** The endpoint that `uri` names. `SOURCE_INVALID` for what is not one of the two forms, with what is wrong. */
export function parseNbdUri(uri: string): NbdEndpoint {
  let url: URL
  try {
    url = new URL(uri)
  } catch (cause) {
    throw invalidUri(uri, 'it is not a URI', cause)
  }
  if (url.protocol === 'nbd+unix:') return unixEndpoint(uri, url)
  if (url.protocol === 'nbd:') return tcpEndpoint(uri, url)
  throw invalidUri(uri, `"${url.protocol}//" is not supported; use "nbd://" or "nbd+unix://"`)
}

/** Whether only this host can be behind `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}

function unixEndpoint(uri: string, url: URL): NbdEndpoint {
  const path = url.searchParams.get('socket')
  if (path === null || !isAbsolute(path)) throw invalidUri(uri, 'a unix socket needs "?socket=" with its absolute path')
  if (url.host !== '' || url.username !== '') throw invalidUri(uri, 'a unix socket has no host: write "nbd+unix:///"')
  return { type: 'unix', path, exportName: exportNameIn(uri, url) }
}

function tcpEndpoint(uri: string, url: URL): NbdEndpoint {
  // The URI ends in manifests and answers of the API: a password in it would, too.
  if (url.username !== '' || url.password !== '') throw invalidUri(uri, 'it holds a user name or password; NBD has none')
  if (url.hostname === '') throw invalidUri(uri, 'it names no host')
  const host = decoded(uri, url.hostname).replace(/^\[|\]$/g, '')
  return { type: 'tcp', host, port: url.port === '' ? DEFAULT_PORT : Number(url.port), exportName: exportNameIn(uri, url) }
}

/** The path without its first slash; an empty name is the server's default export. */
function exportNameIn(uri: string, url: URL): string {
  return decoded(uri, url.pathname.replace(/^\//, ''))
}

function decoded(uri: string, text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw invalidUri(uri, 'it holds a "%" that is not followed by two hexadecimal digits', cause)
  }
}

function invalidUri(uri: string, reason: string, cause?: unknown): HoldfastError {
  const shown = uri.replace(/\/\/[^/]*@/, '//…@')
  return new HoldfastError('SOURCE_INVALID', `The NBD URI "${shown}" cannot be used: ${reason}.`, { cause, details: { reason } })
}
