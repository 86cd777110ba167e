/** `npm run forget-lost-credentials`: for a key that is gone for good. Without `--confirm` it says what it would forget. */
import { homeFolders } from '../runtime/environment.ts'
import { findLostCredentials, forgetLostCredentials } from '../security/lost-credentials.ts'
import type { LostCredentials } from '../security/lost-credentials.ts'
import { runCommand } from './run-command.ts'

const CONFIRM = '--confirm'

await runCommand([CONFIRM], async ({ catalog, environment }, given) => {
  const keysFolder = homeFolders(environment.home).keys
  const lost = await (given.has(CONFIRM) ? forgetLostCredentials : findLostCredentials)(catalog, keysFolder)
  if (lost.ids.length === 0) return [`Nothing to do: the keys in ${keysFolder} open all stored credentials.`]
  return given.has(CONFIRM)
    ? [`Forgotten: ${lost.ids.length} stored credentials.`, ...users(lost, 'Give credentials again (PATCH) to:')]
    : [
        `No key in ${keysFolder} opens ${lost.ids.length} of the stored credentials.`,
        ...users(lost, 'They belong to:'),
        'If the key that sealed them is on another host or in a copy, put it back instead: nothing is lost then.',
        `To forget them: npm run forget-lost-credentials -- ${CONFIRM}`,
      ]
})

function users({ users: all }: LostCredentials, title: string): string[] {
  return all.length === 0 ? [] : [title, ...all.map(({ kind, id, name }) => `  ${kind} "${name}" (${id})`)]
}
