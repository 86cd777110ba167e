/**
 * Beginning a backup job while the guest's file systems stand still.
 *
 * Freezing, beginning and thawing are one shell script that lives on when this process is killed: a guest that stays frozen hangs. Every
 * step has a time limit, and thawing is tried again and again, in the background too, until it is confirmed. (Behind SSH the tunnel dies
 * with this process; there the next attempt at the same backup thaws.)
 */
import { HoldfastError } from '../../domain/errors.ts'
import { startTool } from '../../tools/run-tool.ts'
import type { LibvirtConnection } from './connection.ts'

/** How the guest's file systems were at the instant of the snapshot; `refused` and `silent` are what its agent did when it was asked. */
export type FreezeOutcome = 'frozen' | 'refused' | 'silent' | 'no-agent' | 'disconnected' | 'paused'

export interface BeginScript {
  connection: LibvirtConnection
  uuid: string
  /** What to do when the agent is not to be asked: why it is not. */
  freeze: true | Extract<FreezeOutcome, 'no-agent' | 'disconnected' | 'paused'>
  /** The backup's XML, which tells later how the freeze went. */
  backupXml: (outcome: FreezeOutcome) => string
  checkpointXml: string | null
  limits?: BeginLimits
  /** Of the programs that the script runs; for tests. */
  env?: Record<string, string>
}

/** Seconds for each call. */
export interface BeginLimits {
  freezeS: number
  beginS: number
  thawS: number
}

/** Frozen for at most freeze, begin and thaw together; as a rule half a second. */
export const BEGIN_LIMITS: BeginLimits = { freezeS: 20, beginS: 35, thawS: 15 }

export interface BegunScript {
  outcome: FreezeOutcome
  /** `null` when the job has begun, else what libvirt said. */
  failure: string | null
  /** `false`: the guest was asked to freeze, and nobody has confirmed yet that it goes on; thawing is still being tried. */
  thawed: boolean
}

/** Runs to the end of the begin even when the caller is told to stop: a half-done begin helps nobody. `TOOL_FAILED` */
export async function runBeginScript(script: BeginScript): Promise<BegunScript> {
  return script.connection.withUri((uri) => run(uri, script))
}

async function run(uri: string, script: BeginScript): Promise<BegunScript> {
  const { uuid, freeze, backupXml, checkpointXml, limits = BEGIN_LIMITS, env } = script
  const asked = freeze === true
  const backups = asked
    ? (['frozen', 'refused', 'silent'] as const).map((outcome) => backupXml(outcome))
    : [backupXml(freeze), '', '']
  const seconds = [limits.freezeS, limits.beginS, limits.thawS].map(String)
  let said = ''
  const args = ['-c', SCRIPT, 'sh', uri, uuid, asked ? 'frozen' : freeze, ...seconds, checkpointXml ?? '', ...backups]
  const tool = startTool('sh', args, { dieWithParent: false, ownSession: true, env, onOutput: (text) => (said += text) })
  const { exitCode } = await tool.exited
  const report = /^outcome=(\S+) begun=(\d+) thawed=(\w+)\n([\s\S]*)$/.exec(said)
  if (exitCode !== 0 || !report) {
    throw new HoldfastError('TOOL_FAILED', `The script that begins a backup ended with ${exitCode}: ${tool.stderrTail()}`, {
      details: { program: 'sh', exitCode },
    })
  }
  const [, outcome = '', begun, thawed, words = ''] = report
  return { outcome: freezeOutcomeOf(outcome), failure: failureOf(begun, words.trim()), thawed: thawed !== 'no' }
}

/** Of a begin that took too long; it may still have begun. */
export const BEGIN_TIMED_OUT = 'libvirt did not answer in time'

function failureOf(exitCode: string | undefined, words: string): string | null {
  if (exitCode === '0') return null
  // What `timeout` ends with, and what the shell says of it ("Killed") helps nobody.
  return exitCode === '137' ? BEGIN_TIMED_OUT : words || `virsh ended with ${exitCode}`
}

/** `INTERNAL` for a word that is none. */
export function freezeOutcomeOf(word: string): FreezeOutcome {
  const outcome = outcomes.find((candidate) => candidate === word)
  if (outcome !== undefined) return outcome
  throw new HoldfastError('INTERNAL', `"${word}" is no outcome of a freeze.`)
}

const outcomes: readonly FreezeOutcome[] = ['frozen', 'refused', 'silent', 'no-agent', 'disconnected', 'paused']

/**
 * Arguments: URI, UUID, what to note when nothing is frozen (or `frozen`: freeze), three limits, the checkpoint's XML (or nothing), and the
 * backup's XML for frozen (or not asked), refused and silent. KILL, because signals that a shell ignores its children ignore too; 137 is what
 * `timeout` then ends with. Output is gathered and said at the end: nobody may be listening by then.
 */
const SCRIPT = `
trap '' PIPE HUP INT TERM
uri=$1 uuid=$2 outcome=$3 freeze_s=$4 begin_s=$5 thaw_s=$6 checkpoint=$7
folder=$(mktemp -d) || exit 70
ask() { limit=$1; shift; timeout -s KILL "$limit" virsh --quiet --connect "$uri" "$@" </dev/null; }
thaw() { ask "$thaw_s" domfsthaw "$uuid" >/dev/null 2>&1; }
asked=no thawed=yes xml=$8
if [ "$outcome" = frozen ]; then
  asked=yes
  ask "$freeze_s" domfsfreeze "$uuid" >/dev/null 2>&1
  case $? in 0) ;; 124|137) outcome=silent xml=\${10} ;; *) outcome=refused xml=$9 ;; esac
fi
printf %s "$xml" >"$folder/backup.xml" && printf %s "$checkpoint" >"$folder/checkpoint.xml"
if [ -n "$checkpoint" ]; then set -- --checkpointxml "$folder/checkpoint.xml"; else set --; fi
ask "$begin_s" backup-begin "$uuid" --backupxml "$folder/backup.xml" "$@" >"$folder/said" 2>&1
begun=$?
if [ $asked = yes ] && ! thaw; then
  if [ $outcome != refused ]; then
    thawed=no
    (for pause in 1 2 5 10 20 30 60 60 60 60; do sleep $pause; thaw && break; done) </dev/null >/dev/null 2>&1 &
  fi
fi
said=$(cat "$folder/said")
rm -rf "$folder"
printf 'outcome=%s begun=%s thawed=%s\\n%s\\n' $outcome $begun $thawed "$said" 2>/dev/null || :
exit 0
`
