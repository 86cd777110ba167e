/** Inside User-Mode Linux: see `shares-in-uml.ts`. */
import { describe } from 'vitest'
import { describeShares } from './real-shares.ts'
import { smbServer } from './share-servers.ts'

describe('smb', () => {
  describeShares('cifs', smbServer)
})
