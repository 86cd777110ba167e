/** Servers that fail, stall, die or let nobody else in: real ones, made to misbehave by their own means. */
import { rm, writeFile, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startNbdkit, startPlainQemuNbd, type RunningServer } from '../../test/nbd-programs.ts'
import { requireTool } from '../../test/requires.ts'
import { temporaryFolder } from '../../test/temporary-folder.ts'
import { NbdConnection, type NbdOptions } from './nbd-connection.ts'
import { NbdPool } from './nbd-pool.ts'

for (const program of ['qemu-nbd', 'nbdkit']) requireTool(program)

const MIB = 1024 * 1024

async function connectTo(server: RunningServer, options: NbdOptions = {}): Promise<NbdConnection> {
  const connection = await NbdConnection.connect(server.endpoint, options)
  onTestFinished(() => connection.close())
  return connection
}

describe('errors of single requests', () => {
  test.each([false, true])(
    'nbdkit error: reads fail while the trigger exists, then work again (structured: %s)',
    async (structuredReplies) => {
      const trigger = join(await temporaryFolder(), 'fail')
      await writeFile(trigger, '')
      const server = await startNbdkit(
        '--filter=error',
        'pattern',
        'size=1M',
        'error-pread=EIO',
        'error-pread-rate=100%',
        `error-pread-file=${trigger}`,
      )
      const connection = await connectTo(server, { structuredReplies })
      const into = Buffer.alloc(4096)
      await expect(connection.read(8192, 4096, into)).rejects.toMatchObject({
        code: 'NBD_REQUEST_FAILED',
        retryable: true,
        details: { offset: 8192, length: 4096, errno: 'EIO' },
      })
      await rm(trigger)
      await connection.read(8192, 4096, into)
      expect(into.readBigUInt64BE(0)).toBe(8192n)
    },
  )

  test('of many reads in flight, half failing at random, each gets its own answer', async () => {
    const server = await startNbdkit('--filter=error', 'pattern', 'size=16M', 'error-pread=ENOMEM', 'error-pread-rate=50%')
    const connection = await connectTo(server)
    const buffers = Array.from({ length: 256 }, () => Buffer.alloc(65_536))
    const results = await Promise.allSettled(buffers.map((into, index) => connection.read(index * 65_536, 65_536, into)))
    const failed = results.filter((result) => result.status === 'rejected')
    expect(failed.length).toBeGreaterThan(50)
    expect(failed.length).toBeLessThan(206)
    for (const { reason } of failed) expect(reason).toMatchObject({ code: 'NBD_REQUEST_FAILED', details: { errno: 'ENOMEM' } })
    const wrong = results.filter(
      (result, index) =>
        result.status === 'fulfilled' && buffers[index]?.readBigUInt64BE(65_528) !== BigInt((index + 1) * 65_536 - 8),
    )
    expect(wrong).toEqual([])
  })

  test('a full disk: ENOSPC for writes, the error text of the server kept', async () => {
    const server = await startNbdkit(
      'eval',
      'get_size=echo 1048576',
      'can_write=exit 0',
      'pread=head -c $3 /dev/zero',
      'pwrite=cat >/dev/null; echo ENOSPC no room >&2; exit 1',
    )
    const connection = await connectTo(server)
    await expect(connection.write(0, Buffer.alloc(65_536))).rejects.toMatchObject({
      code: 'NBD_REQUEST_FAILED',
      details: { errno: 'ENOSPC' },
    })
  })

  test('a script that returns too little data is an error, never zeroes', async () => {
    const server = await startNbdkit('eval', 'get_size=echo 1048576', 'pread=head -c 100 /dev/zero')
    const connection = await connectTo(server, { structuredReplies: true })
    await expect(connection.read(0, 4096, Buffer.alloc(4096))).rejects.toMatchObject({ code: 'NBD_REQUEST_FAILED' })
  })

  test('block size policy: what we cannot align is refused by us, what the server refuses is told', async () => {
    const server = await startNbdkit(
      '--filter=blocksize-policy',
      'memory',
      '1M',
      'blocksize-minimum=512',
      'blocksize-preferred=4096',
      'blocksize-maximum=65536',
      'blocksize-error-policy=error',
    )
    const connection = await connectTo(server)
    expect(connection.export).toMatchObject({ minBlockBytes: 512, preferredBlockBytes: 4096, maxBlockBytes: 65_536 })
    await connection.write(512, Buffer.alloc(200 * 1024, 7))
    const into = Buffer.alloc(1000)
    await connection.read(300, 1000, into)
    expect(into.subarray(0, 212).every((byte) => byte === 0) && into.subarray(212).every((byte) => byte === 7)).toBe(true)
    await expect(connection.write(1, Buffer.alloc(512))).rejects.toMatchObject({ code: 'NBD_REQUEST_FAILED', retryable: false })
  })
})

describe('servers that stop', () => {
  test('nbdkit delay beyond the deadline: NBD_TIMEOUT for all requests, the connection ends', async () => {
    const server = await startNbdkit('--filter=delay', 'memory', '1M', 'rdelay=30')
    const connection = await connectTo(server, { requestTimeoutMs: 300 })
    const started = performance.now()
    const results = await Promise.allSettled([0, 4096, 8192].map((offset) => connection.read(offset, 4096, Buffer.alloc(4096))))
    expect(performance.now() - started).toBeLessThan(20_000)
    for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'NBD_TIMEOUT' } })
    expect(await connection.closed).toMatchObject({ code: 'NBD_TIMEOUT' })
  })

  test('a delay below the deadline is only slow', async () => {
    const server = await startNbdkit('--filter=delay', 'pattern', 'size=1M', 'rdelay=300ms')
    const connection = await connectTo(server, { requestTimeoutMs: 10_000 })
    const into = Buffer.alloc(4096)
    await connection.read(4096, 4096, into)
    expect(into.readBigUInt64BE(0)).toBe(4096n)
  })

  test('killed in the middle of requests', async () => {
    const server = await startNbdkit('--filter=delay', 'memory', '1M', 'rdelay=30')
    const pool = await NbdPool.open(server.endpoint, { connections: 3 })
    onTestFinished(() => pool.close())
    expect(pool.connectionCount).toBe(3)
    const reads = Promise.allSettled(Array.from({ length: 12 }, () => pool.read(0, 4096, Buffer.alloc(4096))))
    process.kill(server.tool.pid, 'SIGKILL')
    for (const read of await reads)
      expect(read).toMatchObject({ status: 'rejected', reason: { code: 'NBD_CONNECT_FAILED', retryable: true } })
    await expect(pool.read(0, 512, Buffer.alloc(512))).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
    await expect(NbdPool.open(server.endpoint, { connections: 3 })).rejects.toMatchObject({ code: 'NBD_CONNECT_FAILED' })
  })

  test('killed while writes are on their way', async () => {
    const server = await startNbdkit('memory', '1G')
    const connection = await connectTo(server)
    const data = Buffer.alloc(8 * MIB, 1)
    const writes = Promise.allSettled(Array.from({ length: 32 }, (_, index) => connection.write(index * 8 * MIB, data)))
    process.kill(server.tool.pid, 'SIGKILL')
    const failed = (await writes).filter((write) => write.status === 'rejected')
    expect(failed.length).toBeGreaterThan(0)
    for (const { reason } of failed) expect(reason).toMatchObject({ code: 'NBD_CONNECT_FAILED' })
  })

  test('nbdkit exitwhen: nobody new is let in, who is in can finish', async () => {
    const trigger = join(await temporaryFolder(), 'leave')
    const server = await startNbdkit(
      '--filter=exitwhen',
      'pattern',
      'size=1M',
      `exit-when-file-created=${trigger}`,
      'exit-when-poll=1',
    )
    const connection = await connectTo(server)
    await writeFile(trigger, '')
    await connection.read(0, 4096, Buffer.alloc(4096))
    await connection.close()
    await server.tool.exited
    await expect(NbdConnection.connect(server.endpoint, { connectTimeoutMs: 2_000 })).rejects.toMatchObject({
      code: 'NBD_CONNECT_FAILED',
    })
  })

  test('a stopped process (SIGSTOP) times out in the handshake and in requests', async () => {
    const server = await startNbdkit('memory', '1M')
    const connection = await connectTo(server, { requestTimeoutMs: 200 })
    process.kill(server.tool.pid, 'SIGSTOP')
    onTestFinished(() => void process.kill(server.tool.pid, 'SIGCONT'))
    // A thread that was running stops a moment later, and could still answer.
    await expect.poll(() => threadStates(server.tool.pid)).toEqual(new Set(['T']))
    await expect(connection.read(0, 4096, Buffer.alloc(4096))).rejects.toMatchObject({ code: 'NBD_TIMEOUT' })
    await expect(NbdConnection.connect(server.endpoint, { connectTimeoutMs: 200 })).rejects.toMatchObject({ code: 'NBD_TIMEOUT' })
  })
})

describe('servers that let only some in', () => {
  test('nbdkit limit=1 although it says multi-conn: the pool goes on with one', async () => {
    const server = await startNbdkit('--filter=limit', 'pattern', 'size=1M', 'limit=1')
    const pool = await NbdPool.open(server.endpoint, { connections: 4 })
    onTestFinished(() => pool.close())
    expect(pool.export.canMultiConn).toBe(true)
    expect(pool.connectionCount).toBe(1)
    const into = Buffer.alloc(MIB)
    await pool.read(0, MIB, into)
    expect(into.readBigUInt64BE(MIB - 8)).toBe(BigInt(MIB - 8))
  })

  test('qemu-nbd --shared=1: one connection, and a second client that is never answered gets NBD_TIMEOUT', async () => {
    const image = join(await temporaryFolder(), 'disk.raw')
    await writeFile(image, Buffer.alloc(MIB, 3))
    const server = await startPlainQemuNbd('--format=raw', '--shared=1', image)
    const pool = await NbdPool.open(server.endpoint, { connections: 4 })
    onTestFinished(() => pool.close())
    expect(pool.connectionCount).toBe(1)
    await expect(NbdConnection.connect(server.endpoint, { connectTimeoutMs: 200 })).rejects.toMatchObject({ code: 'NBD_TIMEOUT' })
    const into = Buffer.alloc(512)
    await pool.read(0, 512, into)
    expect(into.every((byte) => byte === 3)).toBe(true)
  })

  test('qemu-nbd --shared=2 of four wanted', async () => {
    const image = join(await temporaryFolder(), 'disk.raw')
    await writeFile(image, Buffer.alloc(MIB, 3))
    const server = await startPlainQemuNbd('--format=raw', '--shared=2', image)
    const pool = await NbdPool.open(server.endpoint, { connections: 4 })
    onTestFinished(() => pool.close())
    expect(pool.connectionCount).toBe(2)
    await pool.write(0, Buffer.alloc(4096, 9))
    await pool.flush()
  })
})

/** As the kernel names them: `T` is stopped. */
async function threadStates(pid: number): Promise<Set<string | undefined>> {
  const threads = await readdir(`/proc/${pid}/task`)
  const states = threads.map(async (thread) => {
    const status = await readFile(`/proc/${pid}/task/${thread}/status`, 'utf8')
    return /^State:\s+(\S)/m.exec(status)?.[1]
  })
  return new Set(await Promise.all(states))
}
