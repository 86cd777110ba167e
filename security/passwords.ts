/** How a password is stored: as an Argon2id hash in PHC format, which carries its own salt and parameters. */
import { hash, verify } from '@node-rs/argon2'
import { HoldfastError } from '../domain/errors.ts'

/** Argon2id as RFC 9106 recommends for limited memory (64 MiB, three passes), on one lane: about a fifth of a second. */
export const argon2Parameters = {
  // The package's own enum is erased at build time and cannot be imported: 2 is Argon2id.
  algorithm: 2,
  memoryCost: 64 * 1024,
  timeCost: 3,
  parallelism: 1,
  outputLen: 32,
} as const

/** Longer ones are refused before hashing, so that nobody makes us hash megabytes. */
export const PASSWORD_LENGTH_MAX = 1024

/** Hashed from 32 random bytes that nobody kept: checking against it takes as long as against a real one, and always fails. */
export const decoyHash = '$argon2id$v=19$m=65536,t=3,p=1$ZVXeKKdjGzPXp7RYY0eL1A$CW3Yhout/AG+R9SS500+fYiCQE+xW1DqMoMWgfsf++0'

/** The hash to store. `INVALID_REQUEST` when the password is empty or longer than {@link PASSWORD_LENGTH_MAX} characters. */
export async function hashPassword(password: string): Promise<string> {
  if (password.length === 0 || password.length > PASSWORD_LENGTH_MAX) {
    throw new HoldfastError('INVALID_REQUEST', `A password has 1 to ${PASSWORD_LENGTH_MAX} characters.`)
  }
  return hash(password, argon2Parameters)
}

/**
 * Whether `password` is the one behind `storedHash`. Without a hash (no such user) it takes as long and answers no, so that
 * answering times do not tell which users exist. `INTERNAL` when the stored hash is damaged.
 */
export async function verifyPassword(storedHash: string | undefined, password: string): Promise<boolean> {
  if (password.length > PASSWORD_LENGTH_MAX) return false
  try {
    const matches = await verify(storedHash ?? decoyHash, password)
    return matches && storedHash !== undefined
  } catch (cause) {
    throw new HoldfastError('INTERNAL', 'A stored password hash is damaged: set that password again.', { cause })
  }
}
