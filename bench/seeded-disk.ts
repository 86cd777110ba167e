/** The disk every figure is measured on: the same bytes in every run, so that figures of two days can be compared. */
import { createCipheriv } from 'node:crypto'
import { open } from 'node:fs/promises'

const MIB = 1024 ** 2
/** Out of ten MiB: five that look random, three of text, two never written. */
const pattern = ['random', 'text', 'random', 'hole', 'random', 'text', 'random', 'hole', 'random', 'text'] as const

/** Writes a sparse raw disk of `sizeBytes` (a multiple of 1 MiB). `incompressible`: random bytes only, without holes. */
export async function writeSeededDisk(path: string, sizeBytes: number, kind: 'mixed' | 'incompressible'): Promise<void> {
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16, 42), Buffer.alloc(16))
  const zeroes = Buffer.alloc(MIB)
  const file = await open(path, 'w')
  try {
    await file.truncate(sizeBytes)
    for (let index = 0; index * MIB < sizeBytes; index += 1) {
      const what = kind === 'incompressible' ? 'random' : pattern[index % pattern.length]!
      if (what === 'hole') continue
      await file.write(what === 'random' ? random.update(zeroes) : text(index), 0, MIB, index * MIB)
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Overwrites about `share` of the disk in runs of 1 MiB spread over it, with other bytes than before. Returns the bytes changed. */
export async function changeSeededDisk(path: string, sizeBytes: number, share: number, generation: number): Promise<number> {
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16, 100 + generation), Buffer.alloc(16))
  const offsets = changedOffsets(sizeBytes, share)
  const file = await open(path, 'r+')
  try {
    for (const offset of offsets) await file.write(random.update(Buffer.alloc(MIB)), 0, MIB, offset)
    await file.sync()
  } finally {
    await file.close()
  }
  return offsets.length * MIB
}

/** Where {@link changeSeededDisk} writes: the beginnings of its runs, 1 MiB each. */
export function changedOffsets(sizeBytes: number, share: number): number[] {
  const runs = Math.max(1, Math.round((sizeBytes * share) / MIB))
  const stride = Math.floor(sizeBytes / MIB / runs)
  return Array.from({ length: runs }, (_, run) => run * stride * MIB)
}

function text(seed: number): Buffer {
  const line = (number: number): string =>
    `${number.toString().padStart(10, '0')} request ${(number * 7919) % 10_007} served from cache by node ${number % 13}\n`
  let content = ''
  for (let number = seed * 100_000; content.length < MIB; number += 1) content += line(number)
  return Buffer.from(content.slice(0, MIB))
}
