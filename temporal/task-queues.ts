/** Queue names, for processes that poll them and clients that start work. Workflow code owns them because it routes its steps. */
export { CONTROL_QUEUE, hostQueue, lookQueue, mountQueue, transferQueue } from '../workflows/task-queues.ts'
