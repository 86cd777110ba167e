/** Whether an answer is what the API's own description promises. */
import { z } from 'zod'
import type { OpenApiDocument } from '../api/openapi.ts'

type Fields = Record<string, unknown>

export type AnswerCheck = (method: string, path: string, status: number, body: unknown) => void

/** Throws, naming request and field, when the described answer of this request has another shape, or none is described. */
export function createAnswerCheck(document: OpenApiDocument): AnswerCheck {
  const checks = new Map<string, z.ZodType>()
  const operations = Object.entries(document.paths ?? {}).map(([template, item]) => ({
    template,
    methods: fieldsOf(item),
    pattern: new RegExp(`^${template.replace(/\{[^/]+\}/g, '[^/]+')}$`),
    // Fewer parameters first: /backups/chain is not /backups/{id}.
    parameters: template.split('{').length,
  }))
  operations.sort((one, other) => one.parameters - other.parameters)

  return (method, path, status, body) => {
    const pathname = path.split('?')[0] ?? path
    const operation = operations.find((known) => known.pattern.test(pathname) && method.toLowerCase() in known.methods)
    const key = `${method} ${operation?.template ?? 'no such route'} ${status}`
    let check = checks.get(key)
    if (!check) {
      const schema = operation
        ? answerSchema(fieldsOf(operation.methods[method.toLowerCase()]), status, key)
        : document.components?.schemas?.['Failure']
      check = z.fromJSONSchema(fieldsOf(inlined(schema, document)))
      checks.set(key, check)
    }
    const result = check.safeParse(body)
    if (!result.success)
      throw new Error(`${key}: ${z.prettifyError(result.error)}\n${JSON.stringify(body, null, 1).slice(0, 2000)}`)
  }
}

function answerSchema(operation: Fields, status: number, key: string): unknown {
  const responses = fieldsOf(operation['responses'])
  const response = responses[status] ?? responses[`${Math.floor(status / 100)}XX`]
  if (response === undefined) throw new Error(`${key}: no answer with this status is described`)
  return fieldsOf(fieldsOf(fieldsOf(response)['content'])['application/json'])['schema']
}

/** References replaced by what they name; our schemas have no loops. */
function inlined(schema: unknown, document: OpenApiDocument): unknown {
  if (Array.isArray(schema)) return schema.map((part) => inlined(part, document))
  if (!isObject(schema)) return schema
  const { $ref } = schema
  if (typeof $ref === 'string') return inlined(document.components?.schemas?.[$ref.split('/').at(-1) ?? ''], document)
  return Object.fromEntries(Object.entries(schema).map(([name, part]) => [name, inlined(part, document)]))
}

function fieldsOf(value: unknown): Fields {
  if (!isObject(value)) throw new Error(`not an object: ${JSON.stringify(value)}`)
  return value
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null
}
