/** Figures that stand for themselves, compared with no other program: how long people wait, how fast they get what they asked for, how much memory is taken. */
import { median } from './report.ts'

export interface Figure {
  what: string
  /** Of `values`, `limit` and what is printed. */
  unit: keyof typeof kinds
  /** One of each run. */
  values: number[]
  /** The budget for the one value that counts; absent where none is set. */
  limit?: number
}

/** Which of the values counts, and which side of the limit it must be on. */
const kinds = {
  s: { of: median, sign: '≤', digits: 2 },
  MiB: { of: (values: readonly number[]) => Math.max(...values), sign: '≤', digits: 0 },
  'MiB/s': { of: median, sign: '≥', digits: 0 },
} as const

export function printFigures(figures: readonly Figure[]): void {
  const table = [headings, ...figures.map(cells)]
  const widths = headings.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)))
  for (const line of table) console.log(line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
}

/** Whether the budget is kept; `null` where none is set. */
export function isHeld({ unit, values, limit }: Figure): boolean | null {
  if (limit === undefined) return null
  const { of, sign } = kinds[unit]
  return sign === '≤' ? of(values) <= limit : of(values) >= limit
}

const headings = ['what', 'median, memory: most', 'from', 'to', 'runs', 'budget']

function cells(figure: Figure): string[] {
  const { what, unit, values, limit } = figure
  const { of, sign, digits } = kinds[unit]
  const [from, to] = [Math.min(...values), Math.max(...values)]
  const budget = limit === undefined ? '' : `${sign} ${limit} ${unit}: ${isHeld(figure) ? 'held' : 'MISSED'}`
  return [what, `${of(values).toFixed(digits)} ${unit}`, from.toFixed(digits), to.toFixed(digits), String(values.length), budget]
}
