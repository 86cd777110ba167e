/** Figures that stand for themselves, compared with no other program: how long people wait, and how much memory is taken. */
import { median } from './report.ts'

export interface Figure {
  what: string
  /** Of `values`, `limit` and what is printed. */
  unit: 's' | 'MiB'
  /** One of each run. */
  values: number[]
  /** What the budget allows, of the median (`s`) or of the largest (`MiB`); absent where none is set. */
  limit?: number
}

export function printFigures(figures: readonly Figure[]): void {
  const table = [headings, ...figures.map(cells)]
  const widths = headings.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0)))
  for (const line of table) console.log(line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))
}

/** The one value that the budget is about. */
export function headline({ unit, values }: Figure): number {
  return unit === 's' ? median(values) : Math.max(...values)
}

const headings = ['what', 'median or peak', 'least', 'most', 'runs', 'budget']

function cells(figure: Figure): string[] {
  const { what, unit, values, limit } = figure
  const digits = unit === 's' ? 2 : 0
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const held = limit === undefined ? '' : `≤ ${limit} ${unit}: ${headline(figure) <= limit ? 'held' : 'MISSED'}`
  return [
    what,
    `${headline(figure).toFixed(digits)} ${unit}`,
    least.toFixed(digits),
    most.toFixed(digits),
    String(values.length),
    held,
  ]
}
