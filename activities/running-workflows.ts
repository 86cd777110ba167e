/** What a step may ask about workflows. `temporal/` answers it; the composition root joins the two. */
export interface RunningWorkflows {
  /** Whether the workflow runs now and, if given, runs for this very backup: ids are used again. Answered by Temporal's own state, never late. */
  isRunning(workflowId: string, backupId?: string): Promise<boolean>
  /** Whether any workflow runs for this backup, a disk's child for instance. May be a few seconds late. */
  isWorkingOn(backupId: string): Promise<boolean>
}
