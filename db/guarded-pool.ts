/**
 * A connection pool whose every failure is a `HoldfastError` and in which nothing waits for ever: neither for a connection, nor for
 * an answer, nor for the end. A connection whose answer is overdue is destroyed, because a late answer would meet the next statement.
 */
import type { Duplex } from 'node:stream'
import type { MysqlPool, MysqlPoolConnection, MysqlQueryResult } from 'kysely'
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2'
import { HoldfastError } from '../domain/errors.ts'
import { translateConnectionError, translateDriverError } from './driver-errors.ts'
import { statementDeadlineMs } from './statement-deadline.ts'

export interface PoolDeadlines {
  /** For a connection: a free one, or a new one. */
  acquireMs: number
  /** For the answer to one statement. */
  statementMs: number
  /** For running statements when the pool ends. */
  endMs: number
}

export function guardPool(pool: Pool, deadlines: PoolDeadlines): MysqlPool {
  const open = watchConnections(pool)
  return {
    getConnection(callback) {
      acquire(pool, deadlines, callback)
    },
    end(callback) {
      const overdue = setTimeout(() => {
        for (const connection of open) cutOff(connection)
        callback(null)
      }, deadlines.endMs)
      pool.end((error) => {
        clearTimeout(overdue)
        callback(error === null || error === undefined ? null : translateDriverError(error))
      })
    },
  }
}

function refuse(): never {
  throw new HoldfastError('INTERNAL', 'There is no connection behind this one.')
}

/** Kysely's type demands one beside an error, and never looks at it. */
const noConnection: MysqlPoolConnection = {
  config: {},
  threadId: 0,
  connect: refuse,
  destroy: refuse,
  query: refuse,
  release() {},
}

type ConnectionCallback = (error: unknown, connection: MysqlPoolConnection) => void

function acquire(pool: Pool, deadlines: PoolDeadlines, callback: ConnectionCallback): void {
  const fail = (error: HoldfastError): void => callback(error, noConnection)
  let answered = false
  const overdue = setTimeout(() => {
    answered = true
    fail(overdueError('gave no connection', deadlines.acquireMs))
  }, deadlines.acquireMs)
  pool.getConnection((error, connection) => {
    clearTimeout(overdue)
    if (answered) {
      if (!error) connection.release()
    } else if (error) {
      fail(translateConnectionError(error))
    } else {
      callback(null, guardConnection(connection, deadlines.statementMs))
    }
  })
}

function guardConnection(connection: PoolConnection, statementMs: number): MysqlPoolConnection {
  function query(sql: string, parameters: unknown[], callback?: (error: unknown, result: MysqlQueryResult) => void): never {
    if (callback === undefined) {
      throw new HoldfastError('INTERNAL', 'The catalog does not stream rows: read them page by page.')
    }
    ask(connection, { sql, parameters, statementMs }, callback)
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the overload with a callback promises nothing to return
    return undefined as never
  }
  return {
    config: connection.config,
    threadId: connection.threadId,
    connect: (callback) => connection.connect(callback),
    destroy: () => cutOff(connection),
    query,
    release: () => connection.release(),
  }
}

function ask(
  connection: PoolConnection,
  { sql, parameters, statementMs }: { sql: string; parameters: unknown[]; statementMs: number },
  callback: (error: unknown, result: MysqlQueryResult) => void,
): void {
  const timeout = statementDeadlineMs(statementMs)
  const question = { sql, values: parameters, ...(timeout === undefined ? {} : { timeout }) }
  connection.query<ResultSetHeader | RowDataPacket[]>(question, (error, result) => {
    if (!error) {
      callback(null, result)
    } else if (error.code === 'PROTOCOL_SEQUENCE_TIMEOUT') {
      cutOff(connection)
      callback(overdueError('did not answer', statementMs), [])
    } else {
      callback(translateDriverError(error), [])
    }
  })
}

function watchConnections(pool: Pool): Set<PoolConnection> {
  const open = new Set<PoolConnection>()
  pool.on('connection', (connection) => {
    open.add(connection)
    connection.once('end', () => open.delete(connection))
    // The pool listens for the first error only; a second one on a dying connection would end the process.
    connection.on('error', () => open.delete(connection))
  })
  return open
}

/**
 * Takes a connection away at once. mysql2's own `destroy` only says goodbye and goes on listening: with a server that is frozen or
 * busy, the socket would stay open and the statement waiting.
 */
function cutOff(connection: PoolConnection): void {
  connection.destroy()
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the socket is there, but not in mysql2's types
  const { stream } = connection as unknown as { stream: Duplex }
  stream.destroy(new Error('the connection was given up'))
}

function overdueError(what: string, afterMs: number): HoldfastError {
  return new HoldfastError(
    'CATALOG_UNAVAILABLE',
    `The catalog's database ${what} within ${afterMs / 1000} s. It may be overloaded or unreachable; nothing needs restarting afterwards.`,
  )
}
