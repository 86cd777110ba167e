/** `npm run rotate-credentials-key`: a new key for the stored credentials, while everything runs. */
import { rotateCredentialsKey } from '../security/credentials-rotation.ts'
import type { Rotation } from '../security/credentials-rotation.ts'
import { homeFolders } from '../runtime/environment.ts'
import { runCommand } from './run-command.ts'

const COPIED = '--copied'

await runCommand([COPIED], async ({ catalog, environment }, given) => {
  const keysFolder = homeFolders(environment.home).keys
  return told(
    await rotateCredentialsKey({ catalog, keysFolder, hostId: environment.hostId, copied: given.has(COPIED) }),
    keysFolder,
  )
})

function told(rotation: Rotation, keysFolder: string): string[] {
  if (rotation.kind === 'nothing-sealed')
    return [`Nothing to do: there is no key in ${keysFolder} and nothing is sealed. Is HOLDFAST_HOME that of the API?`]
  const hosts = rotation.hosts.join(', ')
  if (rotation.kind === 'prepared') {
    return [
      `The next key is ${rotation.nextPath}. Nothing is sealed under it yet.`,
      `These hosts open credentials too: ${hosts}. Copy that file to the keys folder of each, under the same name, mode 600 and the owner of the`,
      `other keys there. Then run this again here, and after that there: npm run rotate-credentials-key -- ${COPIED}`,
    ]
  }
  const old = rotation.oldPaths.map((path) => `  ${path}`)
  return [
    `Done: ${rotation.credentials} stored credentials are sealed under the new key, ${rotation.path} (id ${rotation.keyId}).`,
    'Copy it to where you keep copies of keys, apart from those of the catalog.',
    ...(hosts === '' ? [] : [`Run the same on ${hosts}.`]),
    ...(old.length === 0 ? [] : ['Kept, because older copies of the catalog open with nothing else:', ...old]),
    ...(old.length === 0 ? [] : ['When you need those copies no more: shred -u <file>']),
  ]
}
