# Assembles what lies on several devices: RAID arrays, LVM's logical volumes, file systems of btrfs.
use strict;
use warnings;

use constant ERESTART => 85;

my $arrays = 0;

# The kernel that starts fast has no RAID 6 (../sandbox.ts): whoever started it is asked for the other one before anything could need that.
sub require_whole_kernel { fail(ERESTART) if line_of('/proc/cmdline') =~ /\binitcall_blacklist=/ }

# RAID arrays of these members, read-only, also when members are missing.
sub arrays {
  my (%members, @order);
  for my $volume (grep { $_->{type} eq 'linux_raid_member' } @_) {
    push @order, $volume->{uuid} unless $members{ $volume->{uuid} };
    push @{ $members{ $volume->{uuid} } }, $volume;
  }
  return unless @order;
  require_whole_kernel();
  load_modules(qw(md-mod linear raid0 raid1 raid10 raid456));
  my @arrays;
  for my $uuid (@order) {
    my $name = 'md' . $arrays++;
    my @devices = map { "/dev/$_->{device}" } @{ $members{$uuid} };
    if (run('/sbin/mdadm', '--assemble', '--readonly', '--run', "/dev/$name", @devices) != 0) {
      add_note($_, 'the array cannot be started: members are missing or damaged') for @{ $members{$uuid} };
      next;
    }
    my $note = (line_of("/sys/block/$name/md/degraded") || 0) > 0 ? 'members of its RAID array are missing' : '';
    push @arrays, { id => $name, device => $name, note => $note };
  }
  return @arrays;
}

# The reader's own settings, and only the devices that were found: no records, no daemons, no other system's metadata.
sub lvm {
  my ($devices, @command) = @_;
  my $only = join ', ', map({ "\"a|^/dev/$_\$|\"" } @$devices), '"r|.*|"';
  my $settings = "devices{dir=\"/dev\" scan=[\"/dev\"] use_devicesfile=0 external_device_info_source=\"none\" filter=[$only]}"
    . ' backup{backup=0 archive=0} global{use_lvmpolld=0 thin_check_executable="" cache_check_executable=""}'
    . ' activation{monitoring=0 udev_sync=0 udev_rules=0}';
  return output_of('/sbin/lvm', @command, '--config', $settings);
}

sub logical_volumes {
  my @devices = map { $_->{device} } grep { $_->{type} eq 'LVM2_member' } @_;
  return unless @devices;
  load_modules('dm-mod');
  my $fields = 'vg_name,lv_name,lv_layout,lv_role,lv_health_status';
  my @told = map { [/\A\s*([\w.+-]+)\t([\w.+-]+)\t([\w,]*)\t([\w,]*)\t([\w ]*?)\s*\z/] }
    split /\n/, lvm(\@devices, 'lvs', '--noheadings', '--separator', "\t", '-o', $fields);
  @told = grep { @$_ } @told;
  load_modules(qw(dm-snapshot dm-thin-pool)) if grep { $_->[2] =~ /thin/ || $_->[3] =~ /snapshot/ } @told;
  # These are activated by writing; on the second disk, then.
  if (grep { $_->[2] =~ /raid|mirror|cache|integrity/ } @told) {
    require_whole_kernel();
    load_modules(qw(dm-mirror dm-raid dm-cache dm-cache-smq));
    my @overlays = map { overlay_of($_) // () } @devices;
    @devices = @overlays if @overlays == @devices;
  }
  lvm(\@devices, 'vgchange', '--activate', 'y', '--activationmode', 'partial', '--noudevsync');
  opendir(my $folder, '/sys/block') or return;
  my %device = map { line_of("/sys/block/$_/dm/name") => $_ } grep { /\Adm-/ } readdir $folder;
  my (@found, %by_device);
  for my $volume (map { logical_volume(\%device, @$_) } grep { $_->[2] !~ /pool/ } @told) {
    my $known = $by_device{ $volume->{device} };
    if (!$known) { push @found, $by_device{ $volume->{device} } = $volume }
    else { $known->{note} = 'another volume group of the same name is on this disk, and is not opened' }
  }
  return @found;
}

sub logical_volume {
  my ($devices, $group, $name, $layout, $role, $health) = @_;
  my $id = join '-', map { s/-/--/gr } $group, $name;
  my $device = $devices->{$id} or return ();
  my $incomplete = $health =~ /partial/;
  return { id => $id, device => $device, incomplete => $incomplete, note => $incomplete ? 'parts of its volume group are missing' : '' };
}

# Where its superblock keeps the number of devices, on all of which a file system lies.
use constant BTRFS_DEVICES_AT => 65_536 + 0x88;

# Devices of one btrfs are opened by the first of them.
sub join_btrfs {
  my %first;
  for my $volume (grep { $_->{type} eq 'btrfs' } @_) {
    my $needed = btrfs_devices($volume->{device});
    next if $needed < 2;
    require_whole_kernel();
    if (my $first = $first{ $volume->{uuid} }) {
      push @{ $first->{devices} }, $volume->{device};
      @$volume{qw(state note)} = ('member', "part of the btrfs file system that is listed as $first->{id}");
    } else {
      $first{ $volume->{uuid} } = $volume;
      @$volume{qw(devices needed)} = ([$volume->{device}], $needed);
    }
  }
  for my $volume (values %first) {
    $volume->{more_options} = join ',', map { "device=/dev/$_" } @{ $volume->{devices} };
    next if @{ $volume->{devices} } >= $volume->{needed};
    $volume->{more_options} .= ',degraded';
    add_note($volume, @{ $volume->{devices} } . " of its $volume->{needed} devices are on this disk, the others are missing");
  }
}

sub btrfs_devices {
  my ($device) = @_;
  open(my $file, '<:raw', "/dev/$device") or return 1;
  sysseek($file, BTRFS_DEVICES_AT, 0);
  my $bytes = '';
  return (sysread($file, $bytes, 8) // 0) == 8 ? unpack('Q<', $bytes) : 1;
}

1;
