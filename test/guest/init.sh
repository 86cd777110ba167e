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

# content <number>: what file <number> holds; 4 to 64 KiB.
content() { yes "file $1 of the load" | head -c $((($1 % 16 + 1) * 4096)); }

# Milliseconds since boot, in hundredths of a second: busybox's date has whole seconds only.
now_ms() {
  read -r uptime idle </proc/uptime
  echo "${uptime%.*}${uptime#*.}0"
}

verify() {
  checked=0
  for name in $(ls /mnt/files | sort -n); do
    if content "$name" | cmp -s - "/mnt/files/$name"; then checked=$((checked + 1)); else echo "guest: damaged $name"; fi
    highest=$name
  done
  echo "guest: verified $checked files, highest $highest"
}

load() {
  number=$highest
  while :; do
    number=$((number + 1))
    from=$(now_ms)
    content $number >"/mnt/files/$number" && sync -f "/mnt/files/$number" || echo "guest: cannot write $number"
    echo "guest: synced $number in $(($(now_ms) - from)) ms"
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
