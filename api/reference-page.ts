/**
 * The reference as one page of plain HTML. Made from the OpenAPI document at start, without scripts and without anything from
 * another host: it works on a machine that reaches nothing else.
 */
import type { OpenApiDocument } from './openapi.ts'

type PathItem = NonNullable<OpenApiDocument['paths']>[string]
type Operation = NonNullable<PathItem['get']>

const methods = ['get', 'post', 'put', 'patch', 'delete'] as const

export function referencePage(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    methods.flatMap((method) => (item[method] ? [{ method, path, operation: item[method] }] : [])),
  )
  const schemas = Object.entries(document.components?.schemas ?? {})
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(document.info.title)} API</title><style>${style}</style></head><body><main>
<h1>${escaped(document.info.title)} API ${escaped(document.info.version)}</h1>
<p>The same as data: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>
<pre>${escaped(document.info.description ?? '')}</pre>
<h2>Requests</h2>${operations.map(operationSection).join('\n')}
<h2>Shapes</h2>${schemas.map(([name, schema]) => schemaSection(name, schema)).join('\n')}
</main></body></html>`
}

function operationSection({ method, path, operation }: { method: string; path: string; operation: Operation }): string {
  return `<details id="${escaped(`${method}-${path}`)}"><summary><b class="${method}">${method.toUpperCase()}</b> <code>${escaped(path)}</code>
${escaped(operation.summary ?? '')}</summary>
${operation.description ? `<p>${escaped(operation.description)}</p>` : ''}
${parameterTable(operation)}
${bodyLine(operation)}
<ul>${Object.entries(operation.responses ?? {})
    .map(responseLine)
    .join('')}</ul></details>`
}

function parameterTable({ parameters = [] }: Operation): string {
  const rows = parameters.flatMap((parameter) =>
    '$ref' in parameter
      ? []
      : [
          `<tr><td><code>${escaped(parameter.name)}</code></td><td>${parameter.in}${parameter.required ? ', required' : ''}</td>
<td>${typeOf(parameter.schema)}</td><td>${escaped(parameter.description ?? descriptionOf(parameter.schema))}</td></tr>`,
        ],
  )
  return rows.length === 0 ? '' : `<table><tr><th>name</th><th>where</th><th>type</th><th></th></tr>${rows.join('')}</table>`
}

function bodyLine({ requestBody }: Operation): string {
  if (!requestBody || '$ref' in requestBody) return ''
  return `<p>Body: ${typeOf(requestBody.content['application/json']?.schema)}</p>`
}

function responseLine([status, response]: [string, unknown]): string {
  const content = isObject(response) && isObject(response['content']) ? response['content']['application/json'] : undefined
  const schema = isObject(content) ? content['schema'] : undefined
  return `<li><b>${escaped(status)}</b> ${typeOf(schema)} ${escaped(descriptionOf(response))}</li>`
}

function schemaSection(name: string, schema: unknown): string {
  const properties = isObject(schema) && isObject(schema['properties']) ? schema['properties'] : {}
  const required: unknown[] = isObject(schema) && Array.isArray(schema['required']) ? schema['required'] : []
  const rows = Object.entries(properties).map(
    ([field, type]) =>
      `<tr><td><code>${escaped(field)}</code></td><td>${required.includes(field) ? 'always' : ''}</td><td>${typeOf(type)}</td>
<td>${escaped(descriptionOf(type))}</td></tr>`,
  )
  const body = rows.length === 0 ? `<p>${typeOf(schema)}</p>` : `<table>${rows.join('')}</table>`
  return `<details id="${escaped(name)}"><summary><code>${escaped(name)}</code> ${escaped(descriptionOf(schema))}</summary>${body}</details>`
}

/** A type in a few words, with links to the shapes it names. */
function typeOf(schema: unknown): string {
  if (!isObject(schema)) return ''
  if (typeof schema['$ref'] === 'string') {
    const name = escaped(schema['$ref'].split('/').at(-1) ?? '')
    return `<a href="#${name}">${name}</a>`
  }
  const parts = schema['anyOf'] ?? schema['oneOf'] ?? schema['allOf']
  if (Array.isArray(parts)) return parts.map(typeOf).join(' or ')
  if (Array.isArray(schema['enum'])) return schema['enum'].map(valueOf).join(' ')
  if (schema['const'] !== undefined) return valueOf(schema['const'])
  if (schema['items'] !== undefined) return `list of ${typeOf(schema['items'])}`
  const format = typeof schema['format'] === 'string' ? ` (${schema['format']})` : ''
  const types = [schema['type'] ?? 'any'].flat().filter((type) => typeof type === 'string')
  return escaped(types.join(' or ') + format)
}

function valueOf(value: unknown): string {
  return `<code>${escaped(JSON.stringify(value))}</code>`
}

function descriptionOf(schema: unknown): string {
  return isObject(schema) && typeof schema['description'] === 'string' ? schema['description'] : ''
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

const style = `body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#fafaf9;color:#1c1917}main{max-width:70rem;margin:auto;padding:2rem}
details{background:#fff;border:1px solid #e7e5e4;border-radius:6px;margin:.4rem 0;padding:.5rem .8rem}summary{cursor:pointer}
code,pre{font:14px/1.5 ui-monospace,monospace}pre{white-space:pre-wrap}table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}
.get{color:#0369a1}.post{color:#15803d}.delete{color:#b91c1c}
@media(prefers-color-scheme:dark){body{background:#1c1917;color:#e7e5e4}details{background:#292524;border-color:#44403c}a{color:#7dd3fc}}`
