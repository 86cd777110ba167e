/** Turns what the processes print into lines for people: `mover  12:00:01 INFO transfer started disk=0`. */
import { prettyFactory } from 'pino-pretty'
import type { ServiceName } from './stack.ts'

const pretty = prettyFactory({ colorize: false, singleLine: true, ignore: 'process,pid,hostname', translateTime: 'HH:MM:ss' })

/** A receiver for `StackOptions.onOutput`; whole lines only, each with its process's name. */
export function readableLines(print: (line: string) => void): (service: ServiceName, text: string) => void {
  const unfinished = new Map<ServiceName, string>()
  return (service, text) => {
    const lines = ((unfinished.get(service) ?? '') + text).split('\n')
    unfinished.set(service, lines.pop() ?? '')
    for (const line of lines) {
      if (line.trim() !== '') print(`${service.padEnd(8)} ${line.startsWith('{') ? pretty(line).trimEnd() : line}`)
    }
  }
}
