/** Prints the story: numbered steps, facts under them, and a progress line that rewrites itself on a terminal. */

export class Narrator {
  #step = 0
  #lineOpen = false

  step(title: string): void {
    this.#closeLine()
    this.#step += 1
    console.log(`\n${this.#step}. ${title}`)
  }

  fact(text: string): void {
    this.#closeLine()
    console.log(`   ${text}`)
  }

  /** Shown only on a terminal, where it can be rewritten. */
  progress(text: string): void {
    if (!process.stdout.isTTY) return
    process.stdout.write(`\r\u001B[K   ${text}`)
    this.#lineOpen = true
  }

  #closeLine(): void {
    if (this.#lineOpen) process.stdout.write('\r\u001B[K')
    this.#lineOpen = false
  }
}

export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

export function rateText(bytes: number, ms: number): string {
  return ms <= 0 ? '' : `${sizeText((bytes * 1000) / ms)}/s`
}
