/** `node small-vitest-runner.ts <result file> <test file> …`: runs files that import Vitest on `small-vitest.ts`; each result is a line of JSON in the file. */
import { appendFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { pathToFileURL } from 'node:url'
import { runDeclared } from './small-vitest.ts'

const small = new URL('./small-vitest.ts', import.meta.url).href
registerHooks({
  resolve: (specifier, context, next) => (specifier === 'vitest' ? { url: small, shortCircuit: true } : next(specifier, context)),
})

const [resultFile, ...files] = process.argv.slice(2)
for (const file of files) await import(pathToFileURL(file).href)
await runDeclared((result) => {
  if (resultFile !== undefined) appendFileSync(resultFile, `${JSON.stringify(result)}\n`)
})
// Whatever a dead share still holds is not waited for.
process.exit()
