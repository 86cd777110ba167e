/** The set-up installs what package-lock.json says; these tests refuse one that says something else than package.json. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

const dependencies = z.record(z.string(), z.string()).default({})
const wishes = z.object({ dependencies, devDependencies: dependencies, optionalDependencies: dependencies })
const lockFile = z.object({
  packages: z.record(z.string(), z.looseObject({ version: z.string().optional(), integrity: z.string().optional() })),
})

async function readJson(name: string): Promise<unknown> {
  return JSON.parse(await readFile(resolve(import.meta.dirname, '..', name), 'utf8'))
}

describe.each(['', 'dev/toolchain/'])('%spackage-lock.json', (folder) => {
  test('belongs to package.json', async () => {
    const lock = lockFile.parse(await readJson(`${folder}package-lock.json`))
    expect(wishes.parse(lock.packages[''])).toEqual(wishes.parse(await readJson(`${folder}package.json`)))
  })

  test('pins every package by its content, and none by the address of a registry', async () => {
    const { packages } = lockFile.parse(await readJson(`${folder}package-lock.json`))
    const installed = Object.entries(packages).filter(([path, entry]) => path !== '' && entry['inBundle'] !== true)
    expect(installed.length).toBeGreaterThan(2)
    expect(installed.filter(([, entry]) => entry.integrity === undefined || entry.version === undefined)).toEqual([])
    expect(installed.filter(([, entry]) => 'resolved' in entry)).toEqual([])
  })
})
