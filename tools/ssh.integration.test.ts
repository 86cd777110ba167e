import { readdir, readFile, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { failureOf } from '../test/failure.ts'
import { freePort, makeKey, startPrivateSshd, type PrivateSshd } from '../test/private-sshd.ts'
import { requireTool } from '../test/requires.ts'
import { createTemporaryFolder, temporaryFolder } from '../test/temporary-folder.ts'
import { openSshTunnel, type SshTunnelRequest } from './ssh-tunnel.ts'
import { runSsh, type SshOptions, type SshTarget } from './ssh.ts'

requireTool('sshd')
requireTool('ssh')

let folder: Awaited<ReturnType<typeof createTemporaryFolder>>
let sshd: PrivateSshd

beforeAll(async () => {
  folder = await createTemporaryFolder()
  sshd = await startPrivateSshd(folder.path)
})

afterAll(async () => {
  await sshd?.stop()
  await folder?.remove()
})

async function run(
  script: string,
  args: readonly string[] = [],
  { target = sshd.target, ...options }: Partial<SshOptions> & { target?: SshTarget } = {},
): Promise<string> {
  const runFolder = options.runFolder ?? (await temporaryFolder())
  const { stdout } = await runSsh(target, { script, args }, { timeoutMs: 30_000, ...options, runFolder })
  return stdout
}

describe('runSsh', () => {
  it('brings any argument to the script there', async () => {
    const args = ["it's", '$(id)', '"', '\n', '-n', '', 'ü \u{1F600}', '%h']
    expect(await run(`printf '%s\\0' "$@"`, args)).toBe(args.map((word) => `${word}\0`).join(''))
  })

  it('fails with the words of the script', async () => {
    const error = await failureOf(run('echo "no luck" >&2; exit 4'))
    expect(error).toMatchObject({ code: 'TOOL_FAILED', message: expect.stringContaining('no luck') })
  })

  it('names a program that the host lacks', async () => {
    const error = await failureOf(run('exec no-such-program-here --x'))
    expect(error).toMatchObject({ code: 'SOURCE_INVALID', message: expect.stringContaining('"no-such-program-here"') })
  })

  it('gives up in time', async () => {
    const started = performance.now()
    const error = await failureOf(run('sleep 60', [], { timeoutMs: 2_000 }))
    expect(error).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true })
    expect(performance.now() - started).toBeLessThan(15_000)
  })

  it('reads a key whose line ends were changed by a form', async () => {
    const privateKey = (): string => sshd.privateKey.trimEnd().replaceAll('\n', '\r\n')
    expect(await run('echo in', [], { target: { ...sshd.target, privateKey } })).toBe('in\n')
  })

  it('works from a folder with a hostile name', async () => {
    const runFolder = join(await temporaryFolder(), `a b%h"c'd`)
    expect(await run('echo in', [], { runFolder })).toBe('in\n')
  })

  it('leaves no key behind, however it ends', async () => {
    const runFolder = await temporaryFolder()
    await run('true', [], { runFolder })
    await failureOf(run('exit 9', [], { runFolder }))
    await failureOf(run('true', [], { runFolder, target: { ...sshd.target, port: await freePort() } }))
    expect(await readdir(runFolder)).toEqual([])
  })
})

describe('who is trusted', () => {
  it('refuses a key that the host does not know', async () => {
    const other = await makeKey(join(await temporaryFolder(), 'other'))
    const error = await failureOf(run('true', [], { target: { ...sshd.target, privateKey: () => other } }))
    expect(error).toMatchObject({ code: 'SOURCE_AUTHENTICATION_FAILED', retryable: false })
    expect(error.message).toContain('authorized_keys')
  })

  it('says so when the key is none', async () => {
    const privateKey = (): string => '-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----'
    const error = await failureOf(run('true', [], { target: { ...sshd.target, privateKey } }))
    expect(error).toMatchObject({ code: 'SOURCE_AUTHENTICATION_FAILED', message: expect.stringContaining('passphrase') })
  })

  it('refuses a host key that is not the known one', async () => {
    const files = await temporaryFolder()
    await makeKey(join(files, 'other'))
    const [type, key] = (await readFile(join(files, 'other.pub'), 'utf8')).split(' ')
    const knownHosts = `[127.0.0.1]:${sshd.port} ${type} ${key}\n`
    const error = await failureOf(run('true', [], { target: { ...sshd.target, knownHosts } }))
    expect(error).toMatchObject({ code: 'SOURCE_AUTHENTICATION_FAILED', retryable: false })
    expect(error.message).toContain('ssh_known_hosts')
  })

  it.each([
    ['an empty list', ''],
    ['the list of the user we run as', null],
  ])('refuses an unknown host by %s', async (_, knownHosts) => {
    const error = await failureOf(run('true', [], { target: { ...sshd.target, knownHosts } }))
    expect(error).toMatchObject({ code: 'SOURCE_AUTHENTICATION_FAILED', message: expect.stringContaining('host key') })
  })

  it('says that nobody answers', async () => {
    const error = await failureOf(run('true', [], { target: { ...sshd.target, port: await freePort() } }))
    expect(error).toMatchObject({ code: 'SOURCE_UNAVAILABLE', retryable: true, message: expect.stringContaining('refused') })
  })

  it('gives up on a server that accepts and is silent', async () => {
    const silent = createServer(() => undefined)
    const port = await freePort()
    await new Promise<void>((resolve) => silent.listen(port, '127.0.0.1', resolve))
    onTestFinished(() => void silent.close())
    const started = performance.now()
    const error = await failureOf(run('true', [], { target: { ...sshd.target, port }, timeoutMs: 60_000 }))
    expect(error.code).toBe('SOURCE_UNAVAILABLE')
    expect(performance.now() - started).toBeLessThan(25_000)
  })
})

describe('the private key', () => {
  /** A part of the key that is nowhere else. */
  const canary = (): string => sshd.privateKey.split('\n')[2] ?? expect.unreachable()

  it('is in no process list, no environment, and no dump of the target', async () => {
    const marker = `marker-${process.pid}`
    const runFolder = await temporaryFolder()
    const seen = join(await temporaryFolder(), 'seen')
    const work = run('until [ -e "$2" ]; do sleep 0.1; done; echo "$1"', [marker, seen], { runFolder })
    const processes = await vi.waitFor(
      async () => {
        const found = await processesWith(marker)
        expect(found.length).toBeGreaterThan(1)
        return found
      },
      { timeout: 60_000 },
    )
    for (const text of processes) expect(text).not.toContain(canary())
    const [files] = await readdir(runFolder)
    expect(await readFile(join(runFolder, files ?? '', 'key'), 'utf8')).toContain(canary())
    await writeFile(seen, '')
    expect(inspect(sshd.target, { depth: 9 }) + JSON.stringify(sshd.target)).not.toContain(canary())
    await work
  })

  it('is in no error', async () => {
    const failing = [
      run('exit 9'),
      run('true', [], { target: { ...sshd.target, port: await freePort() } }),
      run('true', [], { target: { ...sshd.target, user: 'nobody-such' } }),
      run('true', [], { target: { ...sshd.target, knownHosts: '' } }),
      run('sleep 60', [], { timeoutMs: 1_000 }),
    ]
    for (const error of await Promise.all(failing.map(failureOf)))
      expect(inspect(error, { depth: 9 }) + JSON.stringify(error)).not.toContain(canary())
  })
})

async function processesWith(marker: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(marker)) found.push(command + (await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')))
  }
  return found
}

/** A server that greets, as those of NBD do. */
async function greeter(path: string): Promise<Server> {
  const server = createServer((socket) => void socket.on('error', () => undefined).write('hello'))
  await new Promise<void>((resolve) => server.listen(path, resolve))
  onTestFinished(() => void server.close())
  return server
}

function firstWords(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('data', (data) => {
      socket.destroy()
      resolve(data.toString())
    })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed without a word')))
  })
}

describe('openSshTunnel', () => {
  const open = async (
    request: Partial<SshTunnelRequest> & { remoteSocket: string },
    target = sshd.target,
    runFolder?: string,
  ) => {
    const tunnel = await openSshTunnel(
      target,
      { ready: 'greeting', ...request },
      { runFolder: runFolder ?? (await temporaryFolder()) },
    )
    onTestFinished(() => tunnel.close())
    return tunnel
  }

  it.each(['plain.sock', 'a:b c%d\'"\\.sock'])('reaches the socket %j', async (name) => {
    const remoteSocket = join(await temporaryFolder(), name)
    await greeter(remoteSocket)
    const tunnel = await open({ remoteSocket })
    expect(await firstWords(tunnel.path)).toBe('hello')
  })

  it('keeps no key once it is open and nothing at all once it is closed', async () => {
    const [remoteSocket, runFolder] = [join(await temporaryFolder(), 's'), await temporaryFolder()]
    await greeter(remoteSocket)
    const tunnel = await open({ remoteSocket }, sshd.target, runFolder)
    expect(await readdir(runFolder)).toEqual([tunnel.path.slice(runFolder.length + 1)])
    await tunnel.close()
    await tunnel.close()
    expect(await readdir(runFolder)).toEqual([])
  })

  it('says that there is no socket at the other end', async () => {
    const runFolder = await temporaryFolder()
    const error = await failureOf(open({ remoteSocket: '/nonexistent/x.sock' }, sshd.target, runFolder))
    expect(error.code).toBe('SOURCE_UNAVAILABLE')
    expect(await readdir(runFolder)).toEqual([])
  })

  it('says that the server forbids it', async () => {
    const strict = await startPrivateSshd(await temporaryFolder(), ['AllowStreamLocalForwarding no', 'AllowTcpForwarding no'])
    onTestFinished(() => strict.stop())
    const remoteSocket = join(await temporaryFolder(), 's')
    await greeter(remoteSocket)
    const error = await failureOf(open({ remoteSocket }, strict.target))
    expect(error).toMatchObject({ code: 'SOURCE_UNAVAILABLE', message: expect.stringContaining('AllowStreamLocalForwarding') })
  })

  it('ends when the line is cut', async () => {
    const shaky = await startPrivateSshd(await temporaryFolder())
    const remoteSocket = join(await temporaryFolder(), 's')
    await greeter(remoteSocket)
    const tunnel = await open({ remoteSocket }, shaky.target)
    await shaky.cut()
    await expect(tunnel.exited).resolves.toMatchObject({ exitCode: 255 })
    await expect(firstWords(tunnel.path)).rejects.toThrow(/ECONNREFUSED|ENOENT/)
  })

  it('fails with the words of a server that does not start', async () => {
    const remoteSocket = join(await temporaryFolder(), 's')
    const server = { script: 'echo "cannot open it" >&2; exit 7', args: [] }
    const error = await failureOf(open({ remoteSocket, server }))
    expect(error).toMatchObject({ code: 'TOOL_FAILED', message: expect.stringContaining('cannot open it') })
  })

  it('refuses a path that ssh would change', async () => {
    const error = await failureOf(open({ remoteSocket: '/tmp/${HOME}.sock' }))
    expect(error.code).toBe('SOURCE_INVALID')
  })
})
