/**
 * File names are bytes; JSON, addresses and people want text. UTF-8 stays as it is. A byte that is no part of valid UTF-8 becomes the character
 * U+F700 + byte (U+F780 to U+F7FF, for private use), and so does every byte of such a character that the name really holds: the text says
 * exactly which bytes it stands for.
 */

const ESCAPE = 0xf700
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** One name, or names joined by `/`, as text. */
export function nameFromBytes(bytes: Uint8Array): string {
  try {
    const text = decoder.decode(bytes)
    if (!/[\uf780-\uf7ff]/.test(text)) return text
  } catch {
    // Bytes that are no UTF-8: taken apart below.
  }
  let text = ''
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at)
    if (length > 0) text += decoder.decode(bytes.subarray(at, at + length))
    else text += String.fromCharCode(ESCAPE + bytes[at]!)
    at += Math.max(1, length)
  }
  return text
}

/** The bytes that {@link nameFromBytes} made this text from. Half a surrogate pair, which no bytes give, becomes U+FFFD. */
export function nameToBytes(text: string): Buffer {
  if (!/[\uf780-\uf7ff]/.test(text)) return Buffer.from(text)
  const pieces = text.split(/([\uf780-\uf7ff]+)/)
  return Buffer.concat(
    pieces.map((piece, index) =>
      index % 2 === 0 ? Buffer.from(piece) : Buffer.from(Array.from(piece, (character) => character.charCodeAt(0) - ESCAPE)),
    ),
  )
}

/** Bytes of the character that begins here; 0 when none does, or when it is one that we use ourselves. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  if (first < 0x80) return 1
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0
  if (length === 0 || at + length > bytes.length) return 0
  try {
    const character = decoder.decode(bytes.subarray(at, at + length))
    return /[\uf780-\uf7ff]/.test(character) ? 0 : length
  } catch {
    return 0
  }
}
