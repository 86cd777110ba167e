# Reads files of a disk for one caller: see ../protocol.ts, which is the other end. Only perl-base, which every Debian has.
#
# Paths are walked name by name without following links, so that nothing leads out of the volume: not to the reader's own files either.
# Bulk goes through the window, memory shared with the host (/dev/mmapper); the line carries requests and short answers.
use strict;
use warnings;

# x86_64, as User-Mode Linux is. From the kernel's asm/unistd_64.h, fcntl.h and stat.h.
use constant { SYS_NEWFSTATAT => 262, AT_FDCWD => -100, AT_SYMLINK_NOFOLLOW => 0x100 };
use constant { O_NONBLOCK => 0x800, O_NOFOLLOW => 0x20000 };
use constant { S_IFMT => 0xf000, S_IFDIR => 0x4000, S_IFREG => 0x8000, S_IFLNK => 0xa000 };
use constant { EIO => 5, ENOENT => 2, EINVAL => 22, ENOTDIR => 20, ELOOP => 40, EFBIG => 27 };

# A list of names takes so much memory besides the names. Lists are kept while all together they are not larger than that; a folder that is larger
# by itself cannot be listed.
use constant { NAME_COSTS_BYTES => 96, NAMES_KEPT_BYTES => 96 << 20 };
use constant PATH_IN_WINDOW => 0x8000_0000;
# The caller takes no more: ../answers.ts.
use constant VOLUME_TEXT_MAX_BYTES => 1024;
use constant { READ_AT_ONCE => 1 << 20, FILES_KEPT => 16 };

binmode STDIN;
binmode STDOUT;
sysopen(my $window, '/dev/mmapper', 2) or die "reader: no window: $!\n";

my @volumes;    # { root => folder, … } by number
my $here = '';  # "<volume>\0<path>" of the working directory; '' when unknown
my %names;      # the same key => sorted names
my $names_kept = 0;
my (%files, @file_order);
# Kept, because a new one costs a page fault for each of its pages, and those are slow here.
my $buffer = "\0" x READ_AT_ONCE;

sub read_exactly {
  my ($length) = @_;
  my $bytes = '';
  while (length $bytes < $length) {
    my $n = sysread(STDIN, $bytes, $length - length $bytes, length $bytes);
    exit 0 unless $n;
  }
  return $bytes;
}

sub answer {
  my ($id, $errno, $payload) = @_;
  my $bytes = pack('NNN', 8 + length $payload, $id, $errno) . $payload;
  my $done = 0;
  while ($done < length $bytes) {
    my $n = syswrite(STDOUT, $bytes, length($bytes) - $done, $done);
    exit 0 unless $n;
    $done += $n;
  }
}

# An error number; 0, which a failed call should not leave, becomes EIO.
sub fail { die { errno => $_[0] || EIO } }

sub put {
  my ($at, $bytes) = @_;
  sysseek($window, $at, 0);
  my $n = syswrite($window, $bytes);
  fail(EIO) unless defined $n && $n == length $bytes;
}

# (mode, uid, gid, size, links, inode, mtime seconds, nanoseconds), or errno alone
sub status_of {
  my ($name) = @_;
  my $buffer = "\0" x 144;
  if (syscall(SYS_NEWFSTATAT, AT_FDCWD, $name, $buffer, AT_SYMLINK_NOFOLLOW) != 0) { return (0 + $!) }
  my ($inode, $links, $mode, $uid, $gid, $size, $seconds, $nanoseconds) = unpack('x8 Q Q L L L x4 x8 q x16 x16 q Q', $buffer);
  return ($mode, $uid, $gid, $size, $links, $inode, $seconds, $nanoseconds);
}

# Goes into a folder of a volume.
sub enter {
  my ($number, $path) = @_;
  my $key = "$number\0$path";
  return $key if $here eq $key;
  my $volume = $volumes[$number] or fail(ENOENT);
  $here = '';
  chdir $volume->{root} or fail(EIO);
  for my $name (split m{/}, $path) {
    next if $name eq '';
    fail(ENOENT) if $name eq '.' || $name eq '..';
    my @status = status_of($name);
    fail($status[0]) if @status == 1;
    my $kind = $status[0] & S_IFMT;
    fail(ELOOP) if $kind == S_IFLNK;
    fail(ENOTDIR) if $kind != S_IFDIR;
    chdir $name or fail($! + 0);
  }
  return $here = $key;
}

# Goes into the folder that holds it; returns the last name ('.' for the root).
sub enter_parent {
  my ($number, $path) = @_;
  $path =~ s{/+\z}{};
  my ($parent, $name) = $path =~ m{\A(.*)/([^/]+)\z}s ? ($1, $2) : ('', $path =~ s{\A/}{}r);
  fail(ENOENT) if $name eq '..' || ($name eq '.');
  enter($number, $parent);
  return $name eq '' ? '.' : $name;
}

sub sorted_names {
  my ($number, $path) = @_;
  my $key = enter($number, $path);
  return $names{$key} if $names{$key};
  opendir(my $folder, '.') or fail($! + 0);
  my (@found, $bytes);
  while (1) {
    $! = 0;
    my $name = readdir $folder;
    # What a damaged folder still gives is given.
    if (!defined $name) { fail($! + 0) if $! && !@found; last }
    next if $name eq '.' || $name eq '..';
    push @found, $name;
    $bytes += length($name) + NAME_COSTS_BYTES;
    if ($names_kept + $bytes > NAMES_KEPT_BYTES) { %names = (); $names_kept = 0 }
    fail(EFBIG) if $bytes > NAMES_KEPT_BYTES;
  }
  closedir $folder;
  @found = sort @found;
  $names_kept += $bytes // 0;
  return $names{$key} = \@found;
}

# Name and errno; then, when that is 0, mode, uid, gid, size, links, inode, modified seconds and nanoseconds, target of the link.
sub packed_entry {
  my ($name, $shown) = @_;
  my @status = status_of($name);
  return pack('N/a* N', $shown, $status[0] || EIO) if @status == 1;
  my ($mode, $uid, $gid, $size, $links, $inode, $seconds, $nanoseconds) = @status;
  my $target = '';
  if (($mode & S_IFMT) == S_IFLNK) { $target = readlink($name) // return pack('N/a* N', $shown, $! + 0 || EIO) }
  return pack('N/a* N N N N Q> Q> Q> q> N N/a*', $shown, 0, $mode, $uid, $gid, $size, $links, $inode, $seconds, $nanoseconds, $target);
}

# What every request but the one for volumes begins with, and what follows it: volume, place in the window, path. A long path is at that place itself.
sub target_of {
  my ($number, $at, $length, $rest) = unpack('n N N a*', $_[0]);
  if ($length & PATH_IN_WINDOW) {
    $length &= ~PATH_IN_WINDOW;
    sysseek($window, $at, 0);
    my $n = sysread($window, my $path, $length);
    fail(EIO) unless defined $n && $n == $length;
    return ($number, $at, $path, $rest);
  }
  return ($number, $at, unpack("a$length a*", $rest));
}

# target; first, most, bytes of the window → total, count, bytes
sub list {
  my ($number, $at, $path, $rest) = target_of($_[0]);
  my ($first, $most, $room) = unpack('N N N', $rest);
  my $all = sorted_names($number, $path);
  enter($number, $path);
  my ($bytes, $count) = ('', 0);
  while ($count < $most && $first + $count < @$all) {
    my $entry = packed_entry(($all->[$first + $count]) x 2);
    last if length($bytes) + length($entry) > $room;
    $bytes .= $entry;
    $count++;
  }
  put($at, $bytes) if $count;
  return pack('NNN', scalar @$all, $count, length $bytes);
}

# target → one entry, without its name
sub look {
  my ($number, $at, $path) = target_of($_[0]);
  return packed_entry(enter_parent($number, $path), '');
}

sub file_of {
  my ($number, $path) = @_;
  my $key = "$number\0$path";
  return $files{$key} if $files{$key};
  my $name = enter_parent($number, $path);
  my @status = status_of($name);
  fail($status[0]) if @status == 1;
  # Nothing else is ever opened: a pipe would wait, a device is the reader's own.
  fail(EINVAL) if ($status[0] & S_IFMT) != S_IFREG;
  sysopen(my $file, $name, O_NONBLOCK | O_NOFOLLOW) or fail($! + 0);
  if (@file_order >= FILES_KEPT) { delete $files{ shift @file_order } }
  push @file_order, $key;
  return $files{$key} = $file;
}

# target; offset, length → bytes. Short at the end of the file, or before a place that cannot be read.
sub content {
  my ($number, $at, $path, $rest) = target_of($_[0]);
  my ($from, $length) = unpack('Q> N', $rest);
  my $file = file_of($number, $path);
  sysseek($file, $from, 0) // fail($! + 0);
  my $done = 0;
  while ($done < $length) {
    my $want = $length - $done;
    $want = READ_AT_ONCE if $want > READ_AT_ONCE;
    my $n = sysread($file, $buffer, $want);
    if (!defined $n) { last if $done; fail($! + 0) }
    last if $n == 0;
    put($at + $done, $buffer);
    $done += $n;
  }
  return pack('N', $done);
}

require '/volumes.pl';
my @found;

# → for each volume: id, state, file system, label, UUID, device, note, size in bytes
sub volumes {
  @found = find_volumes() unless @found;
  @volumes = map { $_->{root} ? $_ : undef } @found;
  return join '', map {
    my $volume = $_;
    pack('(N/a*)7 Q>', map({ substr $volume->{$_} // '', 0, VOLUME_TEXT_MAX_BYTES } qw(id state type label uuid device note)), $volume->{size})
  } @found;
}

my %operations = (V => \&volumes, L => \&list, S => \&look, R => \&content);

answer(0, 0, 'holdfast-reader-1');
while (1) {
  my $request = read_exactly(unpack('N', read_exactly(4)));
  my ($id, $operation, $rest) = unpack('N a1 a*', $request);
  my $result = eval { ($operations{$operation} or fail(EINVAL))->($rest) };
  if (my $error = $@) {
    $here = '';
    answer($id, ref $error ? $error->{errno} || EIO : EIO, ref $error ? '' : substr($error, 0, 500));
  } else {
    answer($id, 0, $result);
  }
}
