import type { NetConnectOpts } from 'node:net'
import { HoldfastError } from '../../domain/errors.ts'
import type { NbdEndpoint } from '../../sources/source.ts'

/** The endpoint as an NBD URI, for messages. */
export function endpointUri(endpoint: NbdEndpoint): string {
  const name = encodeURIComponent(endpoint.exportName)
  if (endpoint.type === 'unix') return `nbd+unix:///${name}?socket=${endpoint.path}`
  const host = endpoint.host.includes(':') ? `[${endpoint.host}]` : endpoint.host
  return `nbd://${host}:${endpoint.port}/${name}`
}

/** Where `node:net` connects to. */
export function endpointAddress(endpoint: NbdEndpoint): NetConnectOpts {
  return endpoint.type === 'unix'
    ? { path: endpoint.path }
    : { host: endpoint.host, port: endpoint.port, noDelay: true, keepAlive: true }
}

/** The server broke the protocol. Its connection is not to be trusted any more and gets closed. */
export function protocolError(endpoint: string, what: string): HoldfastError {
  return new HoldfastError(
    'NBD_PROTOCOL_ERROR',
    `The NBD server at ${endpoint} broke the protocol: ${what}. Check that it is an NBD server in good order.`,
    {
      details: { endpoint },
    },
  )
}
