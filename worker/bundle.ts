/** Workflow code as one script for the workers, built once per version of the sources and kept. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode } from '@temporalio/worker'
import type { Logger as BundleLogger } from '@temporalio/worker'

const root = fileURLToPath(new URL('..', import.meta.url))
/** What a bundle is made of; anything else that workflow code could import is refused by the layer rules. */
const sourceFolders = ['workflows', 'domain']

/**
 * The path of the bundle for the sources as they are now, built when it is not in `cacheFolder` yet (a few seconds). Safe to call
 * from several processes at once: a bundle appears under its name only when it is whole. Older ones are removed.
 */
export async function workflowBundle(cacheFolder: string, logger?: BundleLogger): Promise<string> {
  const name = `workflows-${await sourcesHash()}.js`
  const path = join(cacheFolder, name)
  await mkdir(cacheFolder, { recursive: true })
  if ((await readdir(cacheFolder)).includes(name)) return path
  const workflowsPath = join(root, 'workflows', 'index.ts')
  const { code } = await bundleWorkflowCode({ workflowsPath, ...(logger ? { logger } : {}) })
  const unfinished = `${path}.${process.pid}`
  await writeFile(unfinished, code)
  await rename(unfinished, path)
  await removeOlder(cacheFolder, name)
  return path
}

/** Of every source file and of the SDK, which must be the same in bundle and worker. */
async function sourcesHash(): Promise<string> {
  const hash = createHash('sha256').update(sdkVersion())
  for (const folder of sourceFolders) {
    const names = await readdir(join(root, folder))
    for (const name of names.filter((name) => name.endsWith('.ts') && !name.includes('.test.')).sort()) {
      hash.update(`\0${folder}/${name}\0`).update(await readFile(join(root, folder, name)))
    }
  }
  return hash.digest('hex').slice(0, 16)
}

function sdkVersion(): string {
  const manifest: unknown = createRequire(import.meta.url)('@temporalio/worker/package.json')
  return JSON.stringify(manifest)
}

async function removeOlder(cacheFolder: string, current: string): Promise<void> {
  for (const name of await readdir(cacheFolder)) {
    if (/^workflows-[0-9a-f]{16}\.js$/.test(name) && name !== current) await rm(join(cacheFolder, name), { force: true })
  }
}
