# Finds what can be read on the disk: file systems on the whole disk, on partitions, in RAID arrays and in logical volumes.
use strict;
use warnings;

# How each file system is mounted. `recovered`: as it is, which fails on a read-only device when the journal must be replayed first;
# `as_is`: without the journal. `modules` in the order of loading.
my %file_systems = (
  ext2     => { kind => 'ext4', options => 'ro', as_is => 'ro' },
  ext3     => { kind => 'ext4', options => 'ro', as_is => 'ro,noload' },
  ext4     => { kind => 'ext4', options => 'ro', as_is => 'ro,noload' },
  xfs      => { kind => 'xfs', options => 'ro,nouuid', as_is => 'ro,nouuid,norecovery' },
  btrfs    => { kind => 'btrfs', options => 'ro,subvolid=5', as_is => 'ro,subvolid=5,rescue=nologreplay' },
  vfat     => { kind => 'vfat', options => 'ro,utf8=1,shortname=mixed', modules => [qw(fat vfat nls_cp437 nls_iso8859-1 nls_utf8 nls_ascii)] },
  exfat    => { program => ['/sbin/mount.exfat-fuse', '-o', 'ro'], modules => ['fuse'] },
  ntfs     => { program => ['/sbin/ntfs-3g', '-o', 'ro,streams_interface=none,hide_hid_files=0,show_sys_files=0'], modules => ['fuse'] },
  iso9660  => { kind => 'iso9660', options => 'ro,utf8', modules => [qw(nls_utf8 isofs)] },
  udf      => { kind => 'udf', options => 'ro,utf8', modules => [qw(nls_utf8 udf)] },
  hfsplus  => { kind => 'hfsplus', options => 'ro', modules => [qw(nls_utf8 hfsplus)] },
  squashfs => { kind => 'squashfs', options => 'ro', modules => ['squashfs'] },
  f2fs     => { kind => 'f2fs', options => 'ro', as_is => 'ro,norecovery', modules => ['f2fs'] },
  jfs      => { kind => 'jfs', options => 'ro' },
  reiserfs => { kind => 'reiserfs', options => 'ro', as_is => 'ro,nolog' },
);

my %encrypted = map { $_ => 1 } qw(crypto_LUKS BitLocker);
my %members = map { $_ => 1 } qw(LVM2_member linux_raid_member LVM1_member);

# What journals write when they are replayed: the second disk, in pieces.
use constant { OVERLAY_DISK => '/dev/ubdb', OVERLAY_SECTORS => 524_288, SECTOR => 512 };
my $overlays = 0;

my %loaded;

sub load_modules {
  for my $module (@_) { $loaded{$module}++ or run('/bin/modprobe', '-q', $module) }
}

# Runs a program with what it prints on the console; true when it succeeded.
sub run {
  my $pid = fork;
  return 0 unless defined $pid;
  if ($pid == 0) {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>&', \*STDERR;
    exec @_ or exit 127;
  }
  waitpid $pid, 0;
  return $? == 0;
}

sub output_of {
  my $pid = open(my $pipe, '-|');
  return '' unless defined $pid;
  if ($pid == 0) {
    open STDIN, '<', '/dev/null';
    exec @_ or exit 127;
  }
  local $/;
  my $text = <$pipe>;
  close $pipe;
  return $text // '';
}

sub line_of {
  open(my $file, '<', $_[0]) or return '';
  my $line = <$file> // '';
  chomp $line;
  return $line;
}

sub partitions_of {
  my ($device) = @_;
  opendir(my $folder, "/sys/block/$device") or return;
  my @names = grep { -e "/sys/block/$device/$_/partition" } readdir $folder;
  my @numbered = map { [line_of("/sys/block/$device/$_/partition"), $_] } @names;
  return map { { id => $_->[0], device => $_->[1] } } sort { $a->[0] <=> $b->[0] } @numbered;
}

sub probe {
  my ($device) = @_;
  my %told;
  for (split /\n/, output_of('/sbin/blkid', '-p', '-o', 'udev', "/dev/$device")) {
    my ($key, $value) = /\AID_(\w+)=(.*)\z/ or next;
    $value =~ s/\\x([0-9a-f]{2})/chr hex $1/ge if $key =~ /_ENC\z/;
    $told{$key} = $value;
  }
  return {
    type => $told{FS_TYPE} // '',
    usage => $told{FS_USAGE} // '',
    label => $told{FS_LABEL_ENC} // $told{PART_ENTRY_NAME} // '',
    uuid => $told{FS_UUID_ENC} // '',
    table => $told{PART_TABLE_TYPE} // '',
    ambivalent => $told{FS_AMBIVALENT} // '',
  };
}

# In bytes.
sub size_of {
  my ($device) = @_;
  return 0 + (output_of('/bin/blockdev', '--getsize64', "/dev/$device") || 0);
}

sub find_volumes {
  my @disks = ({ id => 'disk', device => 'ubda' });
  my (@volumes, %seen);
  while (my $disk = shift @disks) {
    my @parts = partitions_of($disk->{device});
    my @pieces = @parts ? map({ { %$_, id => $disk->{id} eq 'disk' ? $_->{id} : "$disk->{id}p$_->{id}" } } @parts) : ($disk);
    for my $piece (@pieces) {
      next if $seen{ $piece->{device} }++;
      push @volumes, volume_on($piece);
    }
    # What was assembled of what was found so far is looked at in turn.
    unless (@disks) {
      push @disks, grep { !$seen{ $_->{device} } } arrays(\@volumes), logical_volumes(\@volumes);
    }
  }
  return @volumes;
}

sub volume_on {
  my ($piece) = @_;
  my $found = probe($piece->{device});
  my $volume = { %$piece, %$found, size => size_of($piece->{device}), state => 'unknown', note => '' };
  if ($encrypted{ $found->{type} }) { $volume->{state} = 'encrypted' }
  elsif ($members{ $found->{type} }) { $volume->{state} = 'member' }
  elsif ($found->{type} eq 'swap') { $volume->{state} = 'swap' }
  elsif (my $how = $file_systems{ $found->{type} }) { open_volume($volume, $how) }
  elsif ($found->{ambivalent} ne '') { $volume->{note} = "several file systems claim it: $found->{ambivalent}" }
  return $volume;
}

sub open_volume {
  my ($volume, $how) = @_;
  load_modules(@{ $how->{modules} // [] });
  my $root = "/v/$volume->{device}";
  mkdir '/v';
  run('/bin/mkdir', '-p', $root);
  my $device = "/dev/$volume->{device}";
  $volume->{state} = 'readable';
  $volume->{root} = $root;
  return if attach($how, $how->{options}, $device, $root);
  my $overlay = overlay_of($volume);
  return if $overlay && attach($how, $how->{options}, $overlay, $root);
  if ($how->{as_is} && attach($how, $how->{as_is}, $device, $root)) {
    $volume->{note} = 'its journal could not be replayed: what was written last before the backup may be missing';
    return;
  }
  delete $volume->{root};
  $volume->{state} = 'damaged';
}

sub attach {
  my ($how, $options, $device, $root) = @_;
  return run(@{ $how->{program} }, $device, $root) if $how->{program};
  return run('/bin/mount', '-t', $how->{kind}, '-o', $options, $device, $root);
}

# The same device, on which a journal can be replayed without touching the disk.
sub overlay_of {
  my ($volume) = @_;
  load_modules(qw(dm-mod dm-bufio dm-snapshot));
  my $number = $overlays++;
  my $sectors = $volume->{size} / SECTOR;
  my $start = $number * OVERLAY_SECTORS;
  return undef if $start + OVERLAY_SECTORS > size_of('ubdb') / SECTOR;
  run('/sbin/dmsetup', 'create', "room$number", '--table', "0 ${\OVERLAY_SECTORS} linear ${\OVERLAY_DISK} $start") or return undef;
  my $table = "0 $sectors snapshot /dev/$volume->{device} /dev/mapper/room$number N 8";
  run('/sbin/dmsetup', 'create', "overlay$number", '--table', $table) or return undef;
  return "/dev/mapper/overlay$number";
}

# RAID arrays of the members found so far, started read-only and with members missing.
sub arrays {
  my ($volumes) = @_;
  my %members;
  push @{ $members{ $_->{uuid} } }, "/dev/$_->{device}" for grep { $_->{type} eq 'linux_raid_member' && !$_->{taken}++ } @$volumes;
  return unless %members;
  load_modules(qw(md-mod linear raid0 raid1 raid10 raid456));
  my $number = 0;
  my @arrays;
  for my $uuid (sort keys %members) {
    $number++ while -e "/dev/md$number";
    run('/sbin/mdadm', '--assemble', '--readonly', '--run', "/dev/md$number", @{ $members{$uuid} }) or next;
    push @arrays, { id => "md$number", device => "md$number" };
  }
  return @arrays;
}

sub logical_volumes {
  my ($volumes) = @_;
  return unless grep { $_->{type} eq 'LVM2_member' && !$_->{taken}++ } @$volumes;
  load_modules(qw(dm-mod dm-bufio dm-snapshot dm-region-hash dm-log dm-mirror dm-raid dm-thin-pool dm-zero));
  run('/sbin/lvm', 'vgchange', '-ay', '--activationmode', 'partial', '--noudevsync');
  run('/sbin/dmsetup', 'mknodes');
  my $told = output_of(
    qw(/sbin/lvm lvs --noheadings --separator), "\t", '-o', 'vg_name,lv_name,lv_dm_path,lv_active', '--select', 'lv_role=public');
  return map {
    my ($group, $name, $path, $active) = /\A\s*([^\t]+)\t([^\t]+)\t([^\t]*)\t(\w*)/;
    defined $active && $active eq 'active' ? { id => "$group/$name", device => $path =~ s{\A/dev/}{}r } : ()
  } split /\n/, $told;
}

1;
