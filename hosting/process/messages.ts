/** What a mover and the process of a repository say to each other. All plain data. */
import type { PortableError } from '../../domain/portable-error.ts'
import type { Input, Output, Verb } from '../verbs.ts'

export interface Call<V extends Verb> {
  type: 'call'
  id: number
  verb: V
  /** Without what the verb takes besides data: its signal stays behind, its listener hears by messages. */
  input: Input<V>
}

export type ToProcess = Call<Verb> | { type: 'abort'; id: number }

/** `ready`: nobody else works on the repository now. */
export type FromProcess =
  | { type: 'ready' }
  | { type: 'progress'; id: number; progress: unknown }
  | { type: 'done'; id: number; output: Output<Verb> }
  | { type: 'failed'; id: number; failure: PortableError }
