/** The API as one app: what every request passes through, and the resources behind it. */
import { createApi } from './routes/route.ts'
import type { Api } from './routes/route.ts'
import { createAuditTrail } from './audit.ts'
import type { ApiDependencies } from './dependencies.ts'
import { answerFailure } from './errors.ts'
import { createFileAccesses } from './file-access.ts'
import { authenticate } from './middleware/authenticate.ts'
import { limitBody } from './middleware/body-limit.ts'
import { createStartOnce } from './middleware/idempotency.ts'
import { requestLog } from './middleware/request-log.ts'
import { securityHeaders } from './middleware/security-headers.ts'
import { describeApi } from './openapi.ts'
import { referencePage } from './reference-page.ts'
import { alerts } from './routes/alerts.ts'
import { audit } from './routes/audit.ts'
import { auth } from './routes/auth.ts'
import { backups } from './routes/backups.ts'
import { chains } from './routes/chains.ts'
import { health } from './routes/health.ts'
import { repositories } from './routes/repositories.ts'
import { repositoryChanges } from './routes/repository-changes.ts'
import { repositoryLocks } from './routes/repository-locks.ts'
import { restoreDownloads } from './routes/restore-downloads.ts'
import { restoreFiles } from './routes/restore-files.ts'
import { restoreMounts } from './routes/restore-mounts.ts'
import { restores } from './routes/restores.ts'
import { sources } from './routes/sources.ts'
import { storage } from './routes/storage.ts'
import { vmContexts } from './routes/vm-contexts.ts'
import { createTotals } from './totals.ts'
import { createRefusal } from './unknown-routes.ts'

export const API_BASE = '/api/v1'
/** Of the API, not of the program: it changes when a client has to. */
const API_VERSION = '1.0.0'

export function createApp(dependencies: ApiDependencies): Api {
  const app = createApi()
  app.use(requestLog(dependencies.logger))
  app.use(securityHeaders())
  app.use(limitBody())
  app.use(authenticate(dependencies))
  app.onError((error, c) => answerFailure(error, c, dependencies.logger))
  addResources(app, dependencies)
  addDescription(app)
  return app
}

function addResources(app: Api, dependencies: ApiDependencies): void {
  const startOnce = createStartOnce(dependencies)
  const totalOf = createTotals(() => dependencies.now().getTime())
  const trail = createAuditTrail(dependencies)
  app.route(API_BASE, health(dependencies))
  app.route(API_BASE, auth(dependencies))
  app.route(API_BASE, sources(dependencies, startOnce))
  app.route(API_BASE, vmContexts(dependencies, startOnce))
  // Before the repositories: "storage-summary" is also a word that could be an id.
  app.route(API_BASE, storage(dependencies))
  app.route(API_BASE, repositories(dependencies, startOnce, trail))
  app.route(API_BASE, repositoryChanges(dependencies, trail))
  app.route(API_BASE, repositoryLocks(dependencies))
  // Before the backups: "chain" is also a word that could be an id.
  app.route(API_BASE, chains(dependencies))
  app.route(API_BASE, backups(dependencies, startOnce, totalOf))
  app.route(API_BASE, restores(dependencies, startOnce, totalOf))
  const files = createFileAccesses(dependencies, trail)
  // Before the files: "mounts" is also a word that could be an id.
  app.route(API_BASE, restoreMounts(dependencies, startOnce, trail))
  app.route(API_BASE, restoreFiles(dependencies, files))
  app.route(API_BASE, restoreDownloads(dependencies, files))
  app.route(API_BASE, alerts(dependencies, trail))
  app.route(API_BASE, audit(dependencies, totalOf))
}

function addDescription(app: Api): void {
  const document = describeApi(app, API_VERSION)
  const page = referencePage(document)
  const refusal = createRefusal(document)
  app.get(`${API_BASE}/openapi.json`, (c) => c.json(document))
  app.get(`${API_BASE}/docs`, (c) => {
    c.header('Content-Security-Policy', "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
    return c.html(page)
  })
  app.notFound((c) => {
    throw refusal(c.req.path)
  })
}
