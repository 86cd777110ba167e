#!/bin/busybox sh
# The whole user space of the tests' guest: it checks the files that it finds on its disk, then goes on writing numbered files.
# What it prints goes to the serial console, where the tests read it. `content` is told again in load.ts: change both.
#
#   holdfast.mode=load    check, then write for ever
#   holdfast.mode=verify  check, then power off
#   holdfast.agent=off    without a guest agent
/bin/busybox mkdir -p /proc /sys /dev /mnt /run /var/run /tmp /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

for module in $(cat /modules/order); do insmod "/modules/$module" || echo "guest: no module $module"; done

argument() {
  for word in $(cat /proc/cmdline); do
    case "$word" in "holdfast.$1="*) echo "${word#*=}" ;; esac
  done
}

# content <number>: what file <number> holds; 4 to 64 KiB. Without starting a program, which is what takes long on an emulated processor.
content() {
  block="file $1 of the load
"
  while [ ${#block} -lt 4096 ]; do block=$block$block; done
  block=${block:0:4096}
  pieces=$(($1 % 16 + 1))
  while [ $pieces -gt 0 ]; do
    printf %s "$block"
    pieces=$((pieces - 1))
  done
}

# Milliseconds since boot, in hundredths of a second: busybox's date has whole seconds only.
now_ms() {
  read -r uptime idle </proc/uptime
  echo "${uptime%.*}${uptime#*.}0"
}

# All files at once; one by one only to tell which are wrong.
verify() {
  cd /mnt/files
  numbers=$(ls | sort -n)
  [ -z "$numbers" ] || check_all || check_each
  set -- $numbers
  for number; do highest=$number; done
  # For who asks the agent; a domain restored from this one may have no console.
  echo "guest: verified $# files, highest $highest" | tee /run/verified
}

check_all() {
  mkfifo /tmp/expected
  for number in $numbers; do content "$number"; done >/tmp/expected &
  cat $numbers | cmp -s - /tmp/expected
}

check_each() {
  for number in $numbers; do content "$number" | cmp -s - "$number" || echo "guest: damaged $number" | tee -a /run/damaged; done
}

load() {
  number=$highest
  while :; do
    number=$((number + 1))
    from=$(now_ms)
    # A file has its number once it is whole, so that a freeze never finds half of one.
    content $number >/mnt/unfinished && mv /mnt/unfinished "/mnt/files/$number" && sync -f /mnt || echo "guest: cannot write $number"
    echo "guest: synced $number in $(($(now_ms) - from)) ms"
    # The host has other things to do, too: once there is something to compare with, the load becomes lighter.
    if [ $number -lt 60 ]; then usleep 40000; else usleep 150000; fi
  done
}

run_agent() {
  for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] || continue
    qemu-ga --method=virtio-serial --path="/dev/${port##*/}" &
    # For the tests, which stop it, and let it go on.
    echo "guest: agent runs as $!"
  done
}

highest=0
mount -t ext4 /dev/vda /mnt || echo 'guest: cannot mount'
mkdir -p /mnt/files
[ "$(argument agent)" = off ] || run_agent
verify
[ "$(argument mode)" = verify ] || load
umount /mnt
poweroff -f
