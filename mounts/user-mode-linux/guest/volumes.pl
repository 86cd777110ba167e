# Finds what can be read on the disk: file systems on the whole disk, on partitions, in RAID arrays and in logical volumes.
# What the disk says about itself (labels, names, UUIDs) is told to the caller and used for nothing else.
use strict;
use warnings;

require '/programs.pl';
require '/file-systems.pl';
require '/volume-managers.pl';

use constant { VOLUMES_MAX => 128, LABEL_MAX_BYTES => 512, SECTOR_BYTES => 512 };

my %encrypted = (crypto_LUKS => 'LUKS', BitLocker => 'BitLocker', cs_fvault2 => 'FileVault');
my %members = (
  linux_raid_member => 'part of a RAID array',
  LVM2_member => 'part of an LVM volume group',
  LVM1_member => 'part of a volume group of LVM 1, which is not read',
);
# What blkid knows and no kernel of ours reads.
my %unreadable = (
  zfs_member => 'part of a ZFS pool', ReFS => 'a ReFS file system', apfs => 'an APFS container', VMFS => 'a VMFS file system',
  VMFS_volume_member => 'part of a VMFS volume', bcache => 'part of a bcache device', drbd => 'a DRBD device',
  ceph_bluestore => 'part of a Ceph store', isw_raid_member => 'part of a RAID array of Intel\'s firmware',
  ddf_raid_member => 'part of a RAID array of a controller', DM_verity_hash => 'checksums of another volume',
);
# By the type in the partition table, where nothing is known of the content.
my %purposes = (
  'e3c9e316-0b5c-4db8-817d-f92df00215ae' => 'reserved by Windows: it holds no files',
  '21686148-6449-6e6f-744e-656564454649' => 'holds a boot loader and no files',
  '5808c8aa-7e8f-42e0-85d2-e1e90434cfb3' => 'part of a dynamic disk of Windows, which is not read',
  'af9b60a0-1431-4f62-bc68-3311714a69ad' => 'part of a dynamic disk of Windows, which is not read',
  'e75caf8f-f680-4cee-afa3-b001e56efc2d' => 'part of a storage pool of Windows, which is not read',
  '0x42' => 'part of a dynamic disk of Windows, which is not read',
);
my %extended = map { $_ => 1 } qw(0x5 0xf 0x85);

# What was found so far; the finders of arrays and logical volumes look through it.
my @volumes;

sub find_volumes {
  my @disks = ({ id => 'disk', device => 'ubda' });
  while (@disks) {
    my @found = map { named_once($_) } map { volumes_of_disk($_) } @disks;
    splice @found, VOLUMES_MAX - @volumes if @volumes + @found > VOLUMES_MAX;
    join_btrfs(@found);
    open_volume($_) for grep { $_->{state} eq 'closed' } @found;
    push @volumes, @found;
    last if @volumes == VOLUMES_MAX;
    # What was assembled of these is looked at in turn.
    @disks = (arrays(@found), logical_volumes(@found));
  }
  add_note($volumes[-1], 'the disk holds more volumes than can be listed') if @volumes == VOLUMES_MAX;
  return @volumes;
}

# Groups of a copied disk bear the same names, and a group may be named as partitions are: requests must still mean one volume. Partitions come first.
my %taken;

sub named_once {
  my ($volume) = @_;
  my $id = $volume->{id};
  for (my $number = 2; $taken{ $volume->{id} }++; $number++) { $volume->{id} = "$id+$number" }
  return $volume;
}

sub volumes_of_disk {
  my ($disk) = @_;
  my @pieces = partitions_of($disk);
  my $probed = probe($disk->{device}, map { $_->{device} } @pieces);
  my $whole = $probed->{ $disk->{device} };
  # Some boot sectors look like tables, and some images are both: what is a file system as a whole is one.
  if (!@pieces || $whole->{TYPE} || $whole->{ambivalent}) { @pieces = ($disk, $whole->{PTTYPE} ? @pieces : ()) }
  @pieces = grep { !$extended{ $probed->{ $_->{device} }{PART_ENTRY_TYPE} // '' } } @pieces;
  return map { volume_on($_, $probed->{ $_->{device} }) } @pieces;
}

sub partitions_of {
  my ($disk) = @_;
  opendir(my $folder, "/sys/block/$disk->{device}") or return;
  my @numbered;
  for my $name (readdir $folder) {
    my $number = line_of("/sys/block/$disk->{device}/$name/partition") or next;
    my $id = $disk->{id} eq 'disk' ? "partition-$number" : "$disk->{id}p$number";
    push @numbered, { number => $number, id => $id, device => $name, note => $disk->{note} };
  }
  @numbered = sort { $a->{number} <=> $b->{number} } @numbered;
  splice @numbered, VOLUMES_MAX if @numbered > VOLUMES_MAX;
  return @numbered;
}

# What blkid says of each device.
sub probe {
  my @devices = @_;
  my %told = map { $_ => {} } @devices;
  my $current;
  for (split /\n/, output_of('/sbin/blkid', '-p', '-o', 'export', map { "/dev/$_" } @devices)) {
    if (m{\A\S*blkid: /dev/([^:]+): ambivalent}) { $told{$1}{ambivalent} = ambivalent_types($1) }
    my ($key, $value) = /\A([A-Z_]+)=(.*)\z/ or next;
    # As blkid writes what a shell would misread.
    $value =~ s/\\(x[0-9a-f]{2}|.)/length $1 > 1 ? chr hex substr $1, 1 : $1/ge;
    if ($key eq 'DEVNAME') { $current = $told{ $value =~ s{\A/dev/}{}r } }
    elsif ($current) { $current->{$key} = $value }
  }
  for my $device (@devices) {
    # Written like that are bytes beyond ASCII; the other form of the output has them as they are.
    my $odd = grep { ($told{$device}{$_} // '') =~ /M-|\^/ } qw(LABEL PART_ENTRY_NAME);
    @{ $told{$device} }{qw(LABEL PART_ENTRY_NAME)} = labels_of($device) if $odd;
  }
  return \%told;
}

sub labels_of {
  my ($device) = @_;
  my $told = output_of('/sbin/blkid', '-p', '-o', 'udev', "/dev/$device");
  return map { $told =~ /^$_=(.*)$/m ? $1 =~ s/\\x([0-9a-f]{2})/chr hex $1/ger : undef } qw(ID_FS_LABEL_ENC ID_PART_ENTRY_NAME);
}

# Names of the file systems that all seem to be there, such as one that was made over another.
sub ambivalent_types {
  my ($device) = @_;
  my ($list) = output_of('/sbin/blkid', '-p', '-o', 'udev', "/dev/$device") =~ /^ID_FS_AMBIVALENT=(.*)$/m or return [];
  return [map { /\A\w+:([\w-]+)/ ? $1 : () } split ' ', $list =~ s/\\x20/ /gr];
}

sub volume_on {
  my ($piece, $told) = @_;
  my $type = $told->{TYPE} // '';
  my $volume = {
    id => $piece->{id},
    device => $piece->{device},
    state => 'unknown',
    type => $type,
    label => substr($told->{LABEL} // $told->{PART_ENTRY_NAME} // '', 0, LABEL_MAX_BYTES),
    uuid => substr($told->{UUID} // '', 0, LABEL_MAX_BYTES),
    note => $piece->{note} // '',
    size => sectors_of($piece->{device}) * SECTOR_BYTES,
  };
  if ($encrypted{$type}) { $volume->{state} = 'encrypted'; add_note($volume, "encrypted with $encrypted{$type}: it cannot be read without its key") }
  elsif ($members{$type}) { $volume->{state} = 'member'; add_note($volume, $members{$type}) }
  elsif ($type eq 'swap') { $volume->{state} = 'swap' }
  elsif (is_file_system($type)) { $volume->{state} = 'closed' }
  elsif ($told->{ambivalent}) { open_one_of($volume, @{ $told->{ambivalent} }) }
  elsif ($piece->{incomplete}) { $volume->{state} = 'damaged' }
  else { add_note($volume, purpose_of($volume, $told)) }
  return $volume;
}

sub purpose_of {
  my ($volume, $told) = @_;
  my $type = $volume->{type};
  return $purposes{ $told->{PART_ENTRY_TYPE} // '' } // do {
    if ($type ne '') { ($unreadable{$type} // "\"$type\"") . ', which is not read here' }
    elsif ($told->{PTTYPE}) { "holds a partition table ($told->{PTTYPE}) without partitions that can be read" }
    elsif (begins_empty($volume->{device})) { 'nothing is written at its beginning' }
    else { 'no file system that is known here' }
  };
}

sub begins_empty {
  my ($device) = @_;
  open(my $file, '<:raw', "/dev/$device") or return 0;
  my $bytes = '';
  return sysread($file, $bytes, 1 << 20) && $bytes !~ /[^\0]/;
}

# The kernel is stricter than signatures are: what it opens is what was used last.
sub open_one_of {
  my ($volume, @types) = @_;
  for my $type (grep { is_file_system($_) } @types) {
    my $try = { %$volume, type => $type };
    open_volume($try);
    if ($try->{root}) { %$volume = %$try; last }
  }
  add_note($volume, 'it bears the signs of several file systems: ' . join ', ', @types);
}

1;
