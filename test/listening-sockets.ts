/** Where a process can be reached by TCP, from the kernel's own tables. */
import { readFile, readdir, readlink } from 'node:fs/promises'

const STATE_LISTEN = '0A'
/** 127.0.0.1 as the kernel writes it: one word, in the machine's byte order. */
const LOOPBACK = '0100007F'

export interface ListeningSocket {
  port: number
  loopback: boolean
}

export async function listeningSockets(pid: number): Promise<ListeningSocket[]> {
  const names = await readdir(`/proc/${pid}/fd`)
  const targets = new Set(await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => ''))))
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/${pid}/net/${name}`, 'utf8')))
  const rows = tables.flatMap((table) => table.split('\n').map((line) => line.trim().split(/\s+/)))
  return rows
    .filter((row) => row[3] === STATE_LISTEN && targets.has(`socket:[${row[9]}]`))
    .map((row) => {
      const [address = '', port = ''] = (row[1] ?? '').split(':')
      return { port: Number.parseInt(port, 16), loopback: address === LOOPBACK }
    })
}
