/** Inside User-Mode Linux: see `shares-in-uml.ts`. */
import { describe } from 'vitest'
import { describeShares } from './real-shares.ts'
import { nfsServer } from './share-servers.ts'

describe('nfs', () => {
  describeShares('nfs', nfsServer)
})
