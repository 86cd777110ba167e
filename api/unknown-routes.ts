/** Requests that no route takes: an unknown path, or a known path with another method. */
import { HoldfastError } from '../domain/errors.ts'
import type { OpenApiDocument } from './openapi.ts'

const methods = ['get', 'post', 'put', 'patch', 'delete'] as const

/** Says which: `METHOD_NOT_ALLOWED` with the methods that are, or `ROUTE_NOT_FOUND`. */
export function createRefusal({ paths }: OpenApiDocument): (path: string) => HoldfastError {
  const known = Object.entries(paths ?? {}).map(([template, item]) => ({
    pattern: new RegExp(`^${template.replace(/[.]/g, '\\.').replace(/\{[^/]+\}/g, '[^/]+')}$`),
    allowed: methods.filter((method) => item && method in item).map((method) => method.toUpperCase()),
  }))
  return (path) => {
    const allowed = [...new Set(known.filter(({ pattern }) => pattern.test(path)).flatMap((route) => route.allowed))]
    if (allowed.length === 0) {
      return new HoldfastError('ROUTE_NOT_FOUND', 'There is nothing at this path: /api/v1/docs lists what there is.')
    }
    return new HoldfastError('METHOD_NOT_ALLOWED', `This path takes ${allowed.join(', ')}.`, {
      details: { allowed_methods: allowed },
    })
  }
}
