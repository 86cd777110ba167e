/** The table that people read and the JSON that programs read. */
import type { Cost } from './measure.ts'

export interface Row {
  what: string
  /** Against what, in words. */
  against: string
  ours: Cost[]
  theirs: Cost[]
  /** Bytes of disk that one run dealt with. */
  bytes: number
  /** Bytes that the backups take, where that tells something. */
  stored?: { ours: number; theirs: number }
  /** The budget, and whether the median ratio keeps it; absent where none is set. */
  budget?: { text: string; holds: (row: Summary) => boolean }
}

export interface Summary {
  ours: Middle
  theirs: Middle
  /** Median over the pairs of ours ÷ theirs, wall time. */
  wallRatio: number
}

interface Middle {
  wallSeconds: number
  cpuSeconds: number
  peakMemoryBytes: number
}

export function summarize(row: Row): Summary {
  return {
    ours: middle(row.ours),
    theirs: middle(row.theirs),
    wallRatio: median(row.ours.map((cost, index) => cost.wallSeconds / (row.theirs[index]?.wallSeconds ?? Number.NaN))),
  }
}

export function printReport(rows: readonly Row[]): void {
  const table = [headings, ...rows.map(cells)]
  const widths = headings.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)))
  for (const line of table) console.log(line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
}

const headings = ['what', 'against', 'wall s', 'ratio', 'MiB/s', 'CPU s', 'peak MiB', 'stored MiB', 'budget']

/** Pairs read "ours / theirs". */
function cells(row: Row): string[] {
  const summary = summarize(row)
  const { ours, theirs, wallRatio } = summary
  return [
    row.what,
    row.against,
    `${ours.wallSeconds.toFixed(2)} / ${theirs.wallSeconds.toFixed(2)}`,
    wallRatio.toFixed(2),
    (row.bytes / 1024 ** 2 / ours.wallSeconds).toFixed(0),
    `${ours.cpuSeconds.toFixed(1)} / ${theirs.cpuSeconds.toFixed(1)}`,
    `${mib(ours.peakMemoryBytes)} / ${mib(theirs.peakMemoryBytes)}`,
    row.stored ? `${mib(row.stored.ours)} / ${mib(row.stored.theirs)}` : '',
    row.budget ? `${row.budget.text}: ${row.budget.holds(summary) ? 'held' : 'MISSED'}` : '',
  ]
}

function middle(costs: readonly Cost[]): Middle {
  return {
    wallSeconds: median(costs.map((cost) => cost.wallSeconds)),
    cpuSeconds: median(costs.map((cost) => cost.cpuSeconds)),
    peakMemoryBytes: Math.max(...costs.map((cost) => cost.peakMemoryBytes)),
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const half = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(0)
}
