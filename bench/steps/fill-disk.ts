/** Writes the files of the disk that mounts are measured on: below a folder where its file system is mounted for writing. */
import { link, mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { changeSeededDisk, writeSeededDisk } from '../seeded-disk.ts'
import { stepArgument } from './step-input.ts'
import type { FillStep } from './step-input.ts'

const step: FillStep = JSON.parse(stepArgument)
await (step.generation === 0 ? fill(step) : change(step))

async function fill({ folder, plan }: FillStep): Promise<void> {
  await writeSeededDisk(join(folder, plan.mixed), plan.fileBytes, 'mixed')
  await writeSeededDisk(join(folder, plan.incompressible), plan.fileBytes, 'incompressible')
  await mkdir(join(folder, plan.crowd))
  // Names as long as those of people's files.
  for (let index = 0; index < plan.crowdFiles; index += 1) {
    await writeFile(join(folder, plan.crowd, `document-${String(index).padStart(6, '0')}.txt`), '')
  }
  await mkdir(join(folder, plan.heap))
  for (let index = 0; index < plan.heapFiles; index += 1) {
    const path = join(folder, plan.heap, `part-${String(index).padStart(3, '0')}.bin`)
    if (index % 2 === 0) await link(join(folder, plan.incompressible), path)
    else await writeHole(path, plan.fileBytes)
  }
}

async function writeHole(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'w')
  try {
    await file.truncate(sizeBytes)
  } finally {
    await file.close()
  }
}

/** So that what is read later lies in every image of the chain. */
async function change({ folder, plan, generation }: FillStep): Promise<void> {
  for (const name of [plan.mixed, plan.incompressible]) {
    await changeSeededDisk(join(folder, name), plan.fileBytes, plan.changedShare, generation)
  }
}
