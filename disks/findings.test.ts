import { describe, expect, it } from 'vitest'
import { Findings, mergeFindings } from './findings.ts'

describe('findings', () => {
  it('are merged with their neighbours of the same reason, whatever the order they came in', () => {
    const block = (reason: 'differs' | 'unreadable', offsetBytes: number, lengthBytes = 10): Parameters<Findings['add']>[0] => ({
      reason,
      offsetBytes,
      lengthBytes,
    })
    const found = [
      block('differs', 30),
      block('differs', 10),
      block('unreadable', 40),
      block('differs', 20, 5),
      block('differs', 60),
    ]
    expect(mergeFindings(found)).toEqual([
      block('differs', 10, 15),
      block('differs', 30),
      block('unreadable', 40),
      block('differs', 60),
    ])
    expect(found[1]).toEqual(block('differs', 10))
  })

  it('are kept only up to a limit', () => {
    const findings = new Findings()
    for (let index = 0; index < 10_000; index++) findings.add({ reason: 'differs', offsetBytes: 2 * index, lengthBytes: 1 })
    expect(findings.kept).toHaveLength(4096)
  })
})
