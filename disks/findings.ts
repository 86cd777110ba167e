/** Places that are not as they should be: merged into runs, counted beyond what is worth keeping. */

/** More findings than this are counted, not kept. */
const KEPT_MAX = 4_096

/** A run of bytes. */
export interface Finding {
  /** Other bytes than were first read, or none at all. */
  reason: 'differs' | 'unreadable'
  offsetBytes: number
  lengthBytes: number
}

/** Collects in any order. */
export class Findings {
  readonly #kept: Finding[] = []

  add(finding: Finding): void {
    if (this.#kept.length < KEPT_MAX) this.#kept.push(finding)
  }

  get kept(): readonly Finding[] {
    return this.#kept
  }
}

/** In the order of their offsets, neighbours of one reason as one. */
export function mergeFindings(findings: readonly Finding[]): Finding[] {
  const merged: Finding[] = []
  for (const finding of findings.toSorted((left, right) => left.offsetBytes - right.offsetBytes)) {
    const last = merged.at(-1)
    if (last && last.reason === finding.reason && last.offsetBytes + last.lengthBytes === finding.offsetBytes) {
      last.lengthBytes += finding.lengthBytes
    } else {
      merged.push({ ...finding })
    }
  }
  return merged
}
