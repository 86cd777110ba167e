# Writes planned files (see written-plan.ts) below a folder: populate.pl <plan> <content> <folder>. Run by root of a machine of its own.
use strict;
use warnings;

# x86_64. From the kernel's asm/unistd_64.h, fcntl.h and stat.h.
use constant { SYS_MKNODAT => 259, SYS_UTIMENSAT => 280, AT_FDCWD => -100, AT_SYMLINK_NOFOLLOW => 0x100 };
my %special = (fifo => [0x1000, 0], 'character-device' => [0x2000, (1 << 8) | 5], 'block-device' => [0x6000, 98 << 8], socket => [0xc000, 0]);

my ($plan, $content, $folder) = @ARGV;
open(my $lines, '<', $plan) or die "$plan: $!\n";
open(my $bytes, '<:raw', $content) or die "$content: $!\n";
chdir $folder or die "$folder: $!\n";

my @written;
while (my $line = <$lines>) {
  chomp $line;
  my ($kind, $name, $mode, $seconds, $nanoseconds, $size, $target, $link, $pieces) = split /\t/, $line, -1;
  my $path = pack 'H*', $name;
  if ($link ne '') { link(pack('H*', $link), $path) or die "link $path: $!\n"; next }
  if ($kind eq 'directory') { mkdir $path or die "mkdir $path: $!\n" }
  elsif ($kind eq 'symlink') { symlink(pack('H*', $target), $path) or die "symlink $path: $!\n" }
  elsif ($kind eq 'file') { write_file($path, $size, $pieces) }
  else {
    my ($type, $device) = @{ $special{$kind} };
    syscall(SYS_MKNODAT, AT_FDCWD, $path, $type, $device) == 0 or die "mknod $path: $!\n";
  }
  push @written, [$path, $kind, $mode, $seconds, $nanoseconds];
}
# Folders after what they hold, which changes their times.
for (reverse @written) {
  my ($path, $kind, $mode, $seconds, $nanoseconds) = @$_;
  chmod $mode, $path if $kind ne 'symlink';
  my $times = pack 'qqqq', $seconds, $nanoseconds, $seconds, $nanoseconds;
  syscall(SYS_UTIMENSAT, AT_FDCWD, $path, $times, AT_SYMLINK_NOFOLLOW);
}

sub write_file {
  my ($path, $size, $pieces) = @_;
  open(my $file, '>:raw', $path) or die "$path: $!\n";
  for (split /,/, $pieces) {
    my ($offset, $length, $from) = split /:/;
    sysseek($bytes, $from, 0);
    sysread($bytes, my $piece, $length) == $length or die "$content: too short\n";
    sysseek($file, $offset, 0);
    (syswrite($file, $piece) // 0) == $length or die "$path: $!\n";
  }
  truncate $file, $size or die "$path: $!\n";
  close $file or die "$path: $!\n";
}
