# Opens file systems read-only, with their journals replayed on a second disk where that is needed to see what was written last.
use strict;
use warnings;

# `options`: as it should be, which fails on a read-only device when a journal must be replayed first. `as_is`: without the journal.
my %file_systems = (
  # What a disk says should happen on errors (a panic, for example) is not asked.
  ext2     => { kind => 'ext4', options => 'errors=continue' },
  ext3     => { kind => 'ext4', options => 'errors=continue', as_is => 'errors=continue,noload' },
  ext4     => { kind => 'ext4', options => 'errors=continue', as_is => 'errors=continue,noload' },
  xfs      => { kind => 'xfs', options => 'nouuid', as_is => 'nouuid,norecovery' },
  btrfs    => { kind => 'btrfs', options => 'subvolid=5', as_is => 'subvolid=5,rescue=nologreplay' },
  vfat     => {
    kind => 'vfat',
    options => 'utf8=1,shortname=mixed,errors=continue',
    modules => [qw(fat nls_cp437 nls_iso8859-1 nls_ascii nls_utf8 vfat)],
  },
  exfat    => { program => ['/sbin/mount.exfat-fuse', '-o', 'ro'], modules => ['fuse'] },
  ntfs     => { program => ['/sbin/ntfs-3g', '-o', 'ro,streams_interface=none'], modules => ['fuse'] },
  iso9660  => { kind => 'iso9660', options => 'utf8', modules => [qw(nls_utf8 isofs)] },
  udf      => { kind => 'udf', options => 'utf8', modules => [qw(nls_utf8 udf)] },
  hfsplus  => { kind => 'hfsplus', options => 'nls=utf8', modules => [qw(nls_utf8 hfsplus)] },
  squashfs => { kind => 'squashfs', modules => ['squashfs'] },
  f2fs     => { kind => 'f2fs', as_is => 'norecovery', modules => ['f2fs'] },
  jfs      => { kind => 'jfs', options => 'errors=continue' },
  reiserfs => { kind => 'reiserfs', as_is => 'nolog' },
);

# asm-generic/errno.h: what is said when a journal must be replayed on a read-only device (EIO by btrfs); and of the second file system of one UUID.
use constant { NEEDS_WRITING => qr/\A(30|5)\z/, EEXIST => 17 };

# What journals write when they are replayed: the second disk, in pieces.
use constant { OVERLAY_DISK => 'ubdb', OVERLAY_SECTORS => 262_144 };
my $overlays = 0;

sub is_file_system { return exists $file_systems{ $_[0] } }

# Sets state, root and note of a volume whose type is known.
sub open_volume {
  my ($volume) = @_;
  my $how = $file_systems{ $volume->{type} };
  load_modules(@{ $how->{modules} // [] });
  my $root = "/v/$volume->{device}";
  mkdir '/v';
  mkdir $root;
  my $device = "/dev/$volume->{device}";
  my $error = attach($volume, $how, $how->{options}, $device, $root);
  if ($how->{as_is} && $error =~ NEEDS_WRITING) {
    my $overlay = overlay_of($volume->{device});
    $error = attach($volume, $how, $how->{options}, "/dev/$overlay", $root) if $overlay;
  }
  if ($error && $how->{as_is} && attach($volume, $how, $how->{as_is}, $device, $root) == 0) {
    $error = 0;
    add_note($volume, 'its journal could not be replayed: what was written last before the backup may be missing');
  }
  if ($error == 0) { $volume->{state} = 'readable'; $volume->{root} = $root; return }
  rmdir $root;
  $volume->{state} = 'damaged';
  add_note($volume, why_not($volume, $error));
}

sub attach {
  my ($volume, $how, $options, $device, $root) = @_;
  return run(@{ $how->{program} }, $device, $root) if $how->{program};
  return mount_device($device, $root, $how->{kind}, join ',', grep { defined && $_ ne '' } $options, $volume->{more_options});
}

sub why_not {
  my ($volume, $error) = @_;
  return 'opening it took too long: it may be damaged' if $error == ETIMEDOUT;
  return 'it is a copy of another file system of this disk, and the two cannot be opened side by side' if $error == EEXIST;
  return "its $volume->{type} file system is damaged: it cannot be opened";
}

sub add_note {
  my ($volume, $note) = @_;
  $volume->{note} = ($volume->{note} // '') eq '' ? $note : "$volume->{note}; $note";
}

# Name below /dev of the same device, on which can be written without touching the disk; undef when there is no room.
sub overlay_of {
  my ($device) = @_;
  my $start = $overlays * OVERLAY_SECTORS;
  return undef if $start + OVERLAY_SECTORS > sectors_of(OVERLAY_DISK);
  load_modules(qw(dm-mod dm-snapshot));
  my ($room, $overlay) = ("room$overlays", "overlay$overlays");
  $overlays++;
  my $rooms_table = "0 ${\OVERLAY_SECTORS} linear /dev/${\OVERLAY_DISK} $start";
  my $table = '0 ' . sectors_of($device) . " snapshot /dev/$device /dev/mapper/$room N 8";
  return run('/sbin/dmsetup', 'create', '--concise', "$room,,,rw,$rooms_table;$overlay,,,rw,$table") == 0 ? "mapper/$overlay" : undef;
}

# Of a block device, by its kernel name.
sub sectors_of {
  my ($device) = @_;
  return line_of("/sys/class/block/$device/size") || 0;
}

1;
