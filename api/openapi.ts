/** The description of the API, made from the same schemas that check its requests. */
import { errorKinds, isErrorCode } from '../domain/errors.ts'
import { httpStatus } from './errors.ts'
import type { Api } from './routes/route.ts'

/** What we use of an OpenAPI 3.1 document. */
export type OpenApiDocument = ReturnType<Api['getOpenAPI31Document']>

const description = `Bodies are JSON with \`snake_case\` names; times are RFC 3339 with a zone; sizes are bytes (\`…_gb\`: GiB).

Send \`Authorization: Bearer <token>\` from \`POST /auth/login\` with every request but health and login.

Failures have one shape: \`{"success": false, "error": "for people", "error_code": "STABLE_CODE", …details}\`.
Lists give \`next_cursor\`; hand it back as \`cursor\`. A POST that starts work takes an \`Idempotency-Key\`.

| error_code | HTTP status | worth trying again |
|---|---|---|
${errorRows()}`

/** One row per code: code, status, whether trying again may help. docs/api.md holds the same rows, and a test compares them. */
export function errorRows(): string {
  return Object.keys(errorKinds)
    .filter(isErrorCode)
    .map((code) => `| ${code} | ${httpStatus[code]} | ${errorKinds[code].retryable ? 'yes' : 'no'} |`)
    .join('\n')
}

export function describeApi(app: Api, version: string): OpenApiDocument {
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' })
  return app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: { title: 'Holdfast', version, description },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }],
  })
}
