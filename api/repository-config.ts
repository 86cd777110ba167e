/** What may stand in a repository's configuration. It is stored in clear and shown to every user, so nothing secret may. */
import type { z } from '@hono/zod-openapi'
import type { RepositoryType } from '../domain/backup.ts'
import { HoldfastError } from '../domain/errors.ts'
import { localConfig } from './schemas/repositories.ts'

/** `REPO_TYPE_UNSUPPORTED`, or `INVALID_REQUEST` naming the field, never its value. */
export function checkRepositoryConfig(request: {
  type: RepositoryType
  config: Record<string, unknown>
}): z.output<typeof localConfig> {
  if (request.type !== 'local') {
    throw new HoldfastError('REPO_TYPE_UNSUPPORTED', `Repositories of type "${request.type}" are not offered yet: use "local".`, {
      details: { type: request.type, supported: ['local'] },
    })
  }
  const checked = localConfig.safeParse(request.config)
  if (checked.success) return checked.data
  const issues = checked.error.issues
    .slice(0, 20)
    .map(({ path, message }) => ({ path: ['config', ...path].join('.'), message: message.slice(0, 300) }))
  throw new HoldfastError(
    'INVALID_REQUEST',
    `The request was refused: "${issues[0]?.path}" in the body: ${issues[0]?.message}.`,
    {
      details: { issues },
    },
  )
}
