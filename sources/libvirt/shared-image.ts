/** How a shut-off domain's image is opened without standing in the domain's way. */
import type { JsonObject } from '../../domain/errors.ts'

/** The lowest node of an image's block graph. */
export function imageFile(image: { path: string; sourceType: string }): JsonObject {
  return { driver: image.sourceType === 'block' ? 'host_device' : 'file', filename: image.path }
}

/**
 * `force-share` takes no lock that keeps QEMU from opening the image for writing: the domain may start at any time. What is then
 * read is worthless, and the snapshot's fingerprint says so.
 */
export function sharedImageGraph(image: { path: string; format: string; sourceType: string }): JsonObject {
  return { driver: image.format, 'read-only': true, 'force-share': true, file: imageFile(image) }
}
