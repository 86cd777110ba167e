/** The gRPC status codes that mean something to us, and the one way to look at an error for them. */
import { isGrpcServiceError } from '@temporalio/client'

export const GRPC_STATUS = { CANCELLED: 1, DEADLINE_EXCEEDED: 4, NOT_FOUND: 5, ALREADY_EXISTS: 6, UNAVAILABLE: 14 } as const

export type GrpcStatusName = keyof typeof GRPC_STATUS

/** Whether `error`, or what the SDK wrapped in it, is a gRPC answer with one of the given status codes. */
export function hasGrpcStatus(error: unknown, ...names: readonly GrpcStatusName[]): boolean {
  for (let current: unknown = error; current instanceof Error; current = current.cause) {
    if (isGrpcServiceError(current)) {
      const { code } = current
      return names.some((name) => GRPC_STATUS[name] === (code as number))
    }
  }
  return false
}
