/** The certificate of a file service that is reached over a network: made by itself, and trusted because the catalog tells the API exactly this one. */
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { HoldfastError } from '../domain/errors.ts'
import { runTool } from '../tools/run-tool.ts'

/** Made anew at every start. Nobody asks an authority about it, so that its end would only be a trap. */
const VALID_DAYS = 36_500
const OPENSSL_TIMEOUT_MS = 30_000

export interface KeyAndCertificate {
  /** PEM. Never written to a file. */
  key: string
  /** PEM. */
  certificate: string
}

/** For clients that call us `host`, a name or an IP address. `TOOL_MISSING`, `TOOL_FAILED`, `TOOL_TIMEOUT`. */
export async function makeCertificate(host: string): Promise<KeyAndCertificate> {
  const name = `subjectAltName=${isIP(host) === 0 ? 'DNS' : 'IP'}:${host}`
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-noenc', '-keyout', '-']
  const subject = ['-subj', '/CN=Holdfast file service', '-addext', name, '-days', String(VALID_DAYS)]
  const { stdout } = await runTool('openssl', ['req', '-x509', ...key, ...subject], { timeoutMs: OPENSSL_TIMEOUT_MS })
  return { key: pem(stdout, 'PRIVATE KEY'), certificate: pem(stdout, 'CERTIFICATE') }
}

/** How others reach a server that listens on every address. */
export function reachableHost(host: string): string {
  return host === '0.0.0.0' || host === '::' ? hostname() : host
}

export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function pem(text: string, label: string): string {
  const found = new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----\\n`).exec(text)
  if (found) return found[0]
  throw new HoldfastError('TOOL_FAILED', `openssl made no ${label.toLowerCase()} for the file service.`, {
    details: { program: 'openssl' },
  })
}
