import { describe, expect, it } from 'vitest'
import { exportNameOf, parseJob, snapshotIdOf } from './backup-job.ts'
import { backupXml, checkpointXml } from './backup-xml.ts'
import { consistencyOf, freezeOf, freezeWarnings } from './consistency.ts'
import { describeDomain } from './domain-xml.ts'
import { isFileOfBackup } from './names.ts'
import { scratchFloorBytes, scratchRequiredBytes } from './scratch.ts'

const facts = { nonce: '0123456789ab', takenAt: new Date('2026-11-21T12:00:00.123Z'), outcome: 'silent' as const }
const disks = [
  {
    target: 'vda',
    included: {
      exportName: exportNameOf('vda', facts),
      scratchPath: "/a 'b' & <c>",
      incrementalFrom: 'holdfast-b-0',
      keepsBitmaps: true,
    },
  },
  {
    target: 'vdb',
    included: { exportName: exportNameOf('vdb', facts), scratchPath: '/s', incrementalFrom: null, keepsBitmaps: false },
  },
  { target: 'hda', included: null },
]

describe('a job', () => {
  it('tells from its own XML what it is', () => {
    const job = parseJob(backupXml('/tmp/x y/holdfast-b-1.sock', disks))
    expect(job).toEqual({
      socketPath: '/tmp/x y/holdfast-b-1.sock',
      backupId: 'b-1',
      facts,
      disks: [
        { target: 'vda', exportName: 'vda.silent.1795262400123.0123456789ab', incrementalFrom: 'holdfast-b-0' },
        { target: 'vdb', exportName: 'vdb.silent.1795262400123.0123456789ab', incrementalFrom: null },
      ],
    })
    expect(snapshotIdOf(job)).toBe('live:holdfast-b-1:0123456789ab')
  })

  it.each([
    "<domainbackup mode='pull'><server transport='tcp' name='localhost' port='1'/><disks><disk name='vda' backup='yes' exportname='vda'/></disks></domainbackup>",
    "<domainbackup mode='pull'><server transport='unix' socket='/tmp/holdfast-b-1.sock'/><disks><disk name='vda' backup='yes'/></disks></domainbackup>",
    "<domainbackup mode='pull'><server transport='unix' socket='/tmp/theirs.sock'/><disks><disk name='vda' backup='yes' exportname='vda.frozen.1.0123456789ab'/></disks></domainbackup>",
    "<domainbackup mode='push'><disks/></domainbackup>",
  ])('of another program is not taken for one of ours: %s', (xml) => {
    const job = parseJob(xml)
    expect([job.backupId, snapshotIdOf(job)]).toEqual([null, null])
  })

  it('has a checkpoint of the disks that keep bitmaps, and none where there are none', () => {
    const xml = checkpointXml('holdfast-b-1', 'ours', disks)
    expect(xml).toMatch(
      /<disk name="vda" checkpoint="bitmap"\/><disk name="vdb" checkpoint="no"\/><disk name="hda" checkpoint="no"\/>/,
    )
    expect(checkpointXml('holdfast-b-1', 'ours', disks.slice(1))).toBeNull()
  })
})

it('knows its own files, not those of a backup whose id begins alike', () => {
  const names = [
    'holdfast-b-1.sock',
    'holdfast-b-1-vda.scratch',
    'holdfast-b-1-vda-vdb.scratch',
    'holdfast-b-10.sock',
    'holdfast-b-1.sock.bak',
  ]
  expect(names.map((name) => isFileOfBackup(name, 'b-1'))).toEqual([true, true, false, false, false])
})

it('asks for a tenth of the data and a floor, which is a gibibyte at most', () => {
  const GIB = 1024 ** 3
  expect(scratchFloorBytes([{ sizeBytes: 1000 }, { sizeBytes: 1000 }])).toBe(100)
  expect(scratchFloorBytes([{ sizeBytes: 1000 * GIB }])).toBe(GIB)
  expect(scratchRequiredBytes([{ sizeBytes: 100 * GIB, dataBytes: 50 * GIB }])).toBe(6 * GIB)
})

describe('the guest agent', () => {
  const xml = (channel: string): string => `<domain><name>a</name><uuid>u</uuid><devices>${channel}</devices></domain>`
  const agent = (state: string): string =>
    xml(
      `<channel type='unix'><target type='virtio' name='com.redhat.spice.0'/></channel><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' ${state}/></channel>`,
    )
  const running = { power: 'running' as const, words: 'running', persistent: true }

  it.each([
    [xml(''), 'no-agent'],
    [agent("state='disconnected'"), 'disconnected'],
    [agent("state='connected'"), true],
    [agent(''), true],
  ])('is asked when it can answer: %s', (text, freeze) => {
    expect(freezeOf({ domain: describeDomain(text), state: running })).toBe(freeze)
  })

  it('is not asked of a paused VM', () => {
    expect(freezeOf({ domain: describeDomain(agent('')), state: { ...running, power: 'paused' } })).toBe('paused')
    expect(freezeOf({ domain: describeDomain(xml('')), state: { ...running, power: 'paused' } })).toBe('no-agent')
  })

  it('gives a warning when it was there and could not help, and when it may have left the guest frozen', () => {
    const outcomes = ['frozen', 'no-agent', 'disconnected', 'paused', 'refused', 'silent'] as const
    expect(outcomes.map((outcome) => consistencyOf(outcome).consistency)).toEqual([
      'filesystem',
      'crash',
      'crash',
      'crash',
      'crash',
      'crash',
    ])
    expect(outcomes.map((outcome) => freezeWarnings(outcome, true).length)).toEqual([0, 0, 1, 1, 1, 1])
    expect(freezeWarnings('frozen', false)).toMatchObject([
      { code: 'consistency_reduced', message: expect.stringMatching(/domfsthaw/) },
    ])
  })
})
