/** Reads `DATABASE_URL`. The password it may hold leaves this file only inside {@link DatabaseAddress}, never inside an error. */
import { HoldfastError } from '../domain/errors.ts'

export interface DatabaseAddress {
  host: string
  port: number
  /** Takes precedence over host and port. */
  socketPath?: string
  user: string
  password?: string
  /** Absent when the URL names no database, to create one. */
  database?: string
}

const MARIADB_PORT = 3306

/**
 * Takes `mysql://user:password@host:port/database` apart; `?socketPath=/…` reaches a server by unix socket.
 * `INVALID_REQUEST` says what is wrong without repeating the URL, since it may hold a password.
 */
export function parseDatabaseUrl(databaseUrl: string): DatabaseAddress {
  const url = parseUrl(databaseUrl)
  if (url.protocol !== 'mysql:' && url.protocol !== 'mariadb:') {
    throw invalid(`its scheme is "${url.protocol}//"`)
  }
  const socketPath = url.searchParams.get('socketPath')
  const database = decode(url.pathname.slice(1))
  const password = decode(url.password)
  return {
    host: url.hostname === '' ? 'localhost' : url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? MARIADB_PORT : Number(url.port),
    user: url.username === '' ? 'root' : decode(url.username),
    ...(socketPath === null ? {} : { socketPath }),
    ...(password === '' ? {} : { password }),
    ...(database === '' ? {} : { database }),
  }
}

/** The same server and user without a database chosen. */
export function withoutDatabase(databaseUrl: string): string {
  parseDatabaseUrl(databaseUrl)
  const url = new URL(databaseUrl)
  url.pathname = '/'
  return url.href
}

function parseUrl(text: string): URL {
  // URL's own error carries the whole text as a property, so it must not become a cause.
  if (!URL.canParse(text)) throw invalid('it is not a URL')
  return new URL(text)
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    // The error would quote the part, which may be the password.
    throw invalid('a "%" in it is not followed by two hexadecimal digits: write a literal "%" as "%25"')
  }
}

function invalid(reason: string): HoldfastError {
  return new HoldfastError(
    'INVALID_REQUEST',
    `DATABASE_URL cannot be used: ${reason}. Give mysql://user:password@host:3306/holdfast, or mysql://user@localhost/holdfast?socketPath=/path/to/mariadb.sock.`,
  )
}
