/** The key that signs sessions. Deleting it (and restarting) ends every session. */
import { loadKeyFile } from './key-file.ts'

export const SESSION_KEY_FILE = 'session-signing.key'

/** As {@link loadKeyFile}. */
export function loadSessionKey(keysFolder: string): Promise<Uint8Array> {
  return loadKeyFile(keysFolder, SESSION_KEY_FILE, 'everybody must sign in again')
}
