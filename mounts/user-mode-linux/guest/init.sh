#!/bin/busybox sh
# The whole user space of the reader: it opens what the disk holds, read-only, and answers one caller on a serial line until that hangs up.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs -o size=64m tmpfs /run
export PATH=/bin:/sbin PERL5LIB=/lib/perl LC_ALL=C DM_DISABLE_UDEV=1 MDADM_NO_UDEV=1
# Held open from here on: what waits on a line that is closed is lost. The caller speaks only when it is spoken to, else bytes wait in the line discipline.
exec 3<>/dev/ttyS1
/bin/busybox stty -F /dev/ttyS1 raw -echo -ixon -ixoff -iexten -opost
/bin/perl /reader.pl <&3 >&3 2>/dev/console
/bin/busybox poweroff -f
